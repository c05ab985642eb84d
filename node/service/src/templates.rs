//! Repository creation templates.

use flotilla_registry::{Prefix, template::Template};
use flotilla_runtime::Published;
use flotilla_state::{Op, Outcome, TemplateUpdate, View};

use crate::{Parts, Permit, ServiceError, proposer::Proposer};

pub struct Templates {
    view: Published<View>,
    proposer: Proposer,
}

impl Templates {
    pub(crate) fn new(parts: &Parts, proposer: Proposer) -> Self {
        Self { view: parts.view.clone(), proposer }
    }

    /// # Errors
    /// `Refused(TemplateExists)`.
    pub async fn create(&self, permit: Permit<'_>, template: Template) -> Result<Template, ServiceError> {
        self.change(permit, Op::CreateTemplate(Box::new(template))).await
    }

    /// The named templates that exist, or every one after `after`, at most `limit`. An unknown prefix is no error
    /// (`ecr-api.md` §5.2).
    ///
    /// # Errors
    /// [`ServiceError::Unavailable`] when "does not exist" cannot be told.
    pub async fn describe(
        &self,
        _: Permit<'_>,
        prefixes: Option<&[Prefix]>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Template>, ServiceError> {
        if let Some(prefixes) = prefixes {
            if prefixes.iter().any(|prefix| self.view.load().templates.get(prefix).is_none()) {
                self.proposer.barrier().await?;
            }
            let view = self.view.load();
            return Ok(prefixes.iter().filter_map(|prefix| view.templates.get(prefix)).cloned().collect());
        }
        let view = self.view.load();
        let beyond = |template: &&Template| after.is_none_or(|after| template.prefix.as_str() > after);
        let mut templates: Vec<_> = view.templates.iter().filter(beyond).collect();
        templates.sort_by(|a, b| a.prefix.as_str().cmp(b.prefix.as_str()));
        Ok(templates.into_iter().take(limit).cloned().collect())
    }

    /// # Errors
    /// `Refused(TemplateMissing)`.
    pub async fn update(&self, permit: Permit<'_>, update: TemplateUpdate) -> Result<Template, ServiceError> {
        self.change(permit, Op::UpdateTemplate(Box::new(update))).await
    }

    /// The deleted one. Repositories that were made from it stay as they are.
    ///
    /// # Errors
    /// `Refused(TemplateMissing)`.
    pub async fn delete(&self, permit: Permit<'_>, prefix: &Prefix) -> Result<Template, ServiceError> {
        self.change(permit, Op::DeleteTemplate { prefix: prefix.clone() }).await
    }

    async fn change(&self, permit: Permit<'_>, op: Op) -> Result<Template, ServiceError> {
        match self.proposer.propose(permit, op).await? {
            Outcome::Template(template) => Ok(*template),
            _ => Err(ServiceError::Unexpected("a change of a template")),
        }
    }
}
