use std::sync::Arc;

use flotilla_base::{
    LogIndex,
    store::{Rows, Store, StoreError},
};
use flotilla_registry::{Settings, cache_rule::CacheRules, template::Templates};

use crate::{Changes, Meta, Tables};

/// The replicated state as this node sees it; a new one is published after every batch. The small part (rules,
/// templates, settings) is parsed, immutable and shared, so that a decision costs no lookup and no lock. The large part
/// is behind [`View::tables`], which may be newer than `applied`, never older.
#[derive(Clone)]
pub struct View {
    pub applied: LogIndex,
    pub meta: Meta,
    pub rules: Arc<CacheRules>,
    pub templates: Arc<Templates>,
    pub settings: Arc<Settings>,
    /// An installed snapshot comes with another store; views of before keep theirs until they are dropped.
    store: Arc<dyn Store>,
}

impl View {
    /// # Errors
    /// When the store fails or holds what this program cannot read.
    pub fn load(store: Arc<dyn Store>) -> Result<Self, StoreError> {
        let tables = Tables::of(&*store);
        Ok(Self {
            applied: tables.applied()?.unwrap_or_default(),
            meta: tables.meta()?,
            rules: Arc::new(tables.rules()?),
            templates: Arc::new(tables.templates()?),
            settings: Arc::new(tables.settings()?),
            store,
        })
    }

    pub fn tables(&self) -> Tables<'_> {
        let rows: &dyn Rows = &*self.store;
        Tables::of(rows)
    }

    /// The view after a batch; what did not change is shared with this one.
    ///
    /// # Errors
    /// As [`View::load`].
    pub fn after(&self, applied: LogIndex, changes: Changes) -> Result<Self, StoreError> {
        let tables = self.tables();
        let mut next = Self { applied, meta: tables.meta()?, ..self.clone() };
        if changes.rules {
            next.rules = Arc::new(tables.rules()?);
        }
        if changes.templates {
            next.templates = Arc::new(tables.templates()?);
        }
        if changes.settings {
            next.settings = Arc::new(tables.settings()?);
        }
        Ok(next)
    }

    pub fn is_founded(&self) -> bool {
        self.meta.cluster.is_some()
    }
}
