use std::sync::{Arc, Mutex, PoisonError};

use flotilla_base::store::StoreError;
use flotilla_oci::{Digest, Name};
use flotilla_registry::cache_rule::CacheRules;
use flotilla_runtime::Published;
use flotilla_state::{Placement, View};
use flotilla_storage::Evictable;

/// Knows from the replicated state which blobs could be fetched again: those that are linked to no repository that is
/// without an upstream, and that nobody pushed or promised to keep.
///
/// A link is only made through a rule. So repositories that have one and no upstream are those whose rule went, or
/// closed itself to them, and which these are changes with the rules only.
pub struct Refetch {
    view: Published<View>,
    cut_off: Mutex<Option<CutOff>>,
}

/// Repositories that have no upstream under these rules.
#[derive(Clone)]
struct CutOff {
    rules: Arc<CacheRules>,
    repositories: Arc<[Name]>,
}

/// Repositories that are read at once.
const PAGE: usize = 1_000;

impl Refetch {
    pub fn new(view: Published<View>) -> Self {
        Self { view, cut_off: Mutex::default() }
    }

    fn cut_off(&self, view: &View) -> Result<Arc<[Name]>, StoreError> {
        let mut cut_off = self.cut_off.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cut_off.as_ref().filter(|known| Arc::ptr_eq(&known.rules, &view.rules)) {
            return Ok(known.repositories.clone());
        }
        let mut repositories = Vec::new();
        let mut after: Option<Name> = None;
        loop {
            let page = view.tables().repositories(after.as_ref(), PAGE)?;
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            let names = page.into_iter().map(|repository| repository.name);
            repositories.extend(names.filter(|name| !has_upstream(&view.rules, name)));
        }
        let repositories: Arc<[Name]> = repositories.into();
        *cut_off = Some(CutOff { rules: view.rules.clone(), repositories: repositories.clone() });
        Ok(repositories)
    }

    fn is_evictable(view: &View, cut_off: &[Name], digest: &Digest) -> Result<bool, StoreError> {
        let tables = view.tables();
        let Some(record) = tables.blob(digest)? else { return Ok(true) };
        if record.pushed_references > 0 || !record.homes.is_empty() || record.placement != Placement::Cached {
            return Ok(false);
        }
        if record.links == 0 {
            return Ok(true);
        }
        for repository in cut_off {
            if tables.link(repository, digest)?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn has_upstream(rules: &CacheRules, repository: &Name) -> bool {
    let origin = rules.resolve(repository).origin;
    origin.is_some_and(|origin| rules.options(&origin.rule).admits(&origin.name))
}

impl Evictable for Refetch {
    fn evictable(&self, digests: &[Digest]) -> Vec<bool> {
        let view = self.view.load();
        let answers = self.cut_off(&view).and_then(|cut_off| {
            digests.iter().map(|digest| Self::is_evictable(&view, &cut_off, digest)).collect::<Result<_, _>>()
        });
        answers.unwrap_or_else(|error| {
            tracing::error!(error = %error, "replicated state cannot be read, nothing is evicted");
            vec![false; digests.len()]
        })
    }
}
