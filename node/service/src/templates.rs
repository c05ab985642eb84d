//! Repository creation templates.

use flotilla_registry::{Prefix, template::Template};
use flotilla_state::TemplateUpdate;

use crate::{Parts, Permit, ServiceError, proposer::Proposer};

pub struct Templates {}

impl Templates {
    pub(crate) fn new(parts: &Parts, proposer: Proposer) -> Self {
        todo!()
    }

    pub async fn create(&self, permit: Permit<'_>, template: Template) -> Result<Template, ServiceError> {
        todo!()
    }

    /// The named templates that exist, or every one after `after`, at most `limit`.
    pub async fn describe(
        &self,
        permit: Permit<'_>,
        prefixes: Option<&[Prefix]>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Template>, ServiceError> {
        todo!()
    }

    pub async fn update(&self, permit: Permit<'_>, update: TemplateUpdate) -> Result<Template, ServiceError> {
        todo!()
    }

    pub async fn delete(&self, permit: Permit<'_>, prefix: &Prefix) -> Result<Template, ServiceError> {
        todo!()
    }
}
