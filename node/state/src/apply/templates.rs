//! Repository creation templates. Repositories that exist never change with them.

use flotilla_base::store::StoreError;
use flotilla_registry::{Prefix, Refusal, template::Template};

use super::{Applier, Halt, repositories::check_resource_tags};
use crate::{Outcome, TemplateSettingsUpdate, TemplateUpdate, format::TEMPLATES};

/// As many as rules; each view holds all of them parsed.
const TEMPLATES_MAX: u64 = 10_000;

impl Applier<'_, '_> {
    pub(super) fn create_template(&mut self, template: Template) -> Result<Outcome, Halt> {
        check_resource_tags(&template.settings.resource_tags)?;
        if self.template(&template.prefix)?.is_some() {
            return Err(Refusal::TemplateExists(template.prefix).into());
        }
        if self.counters.templates >= TEMPLATES_MAX {
            return Err(Refusal::Limit { what: "templates".into(), limit: TEMPLATES_MAX }.into());
        }
        self.counters.templates += 1;
        let created_at = self.meta.time;
        self.put_template(Template { created_at, ..template })
    }

    pub(super) fn update_template(&mut self, update: TemplateUpdate) -> Result<Outcome, Halt> {
        let TemplateUpdate { prefix, description, settings, applied_for, custom_role_arn } = update;
        let Some(mut template) = self.template(&prefix)? else {
            return Err(Refusal::TemplateMissing(prefix).into());
        };
        let TemplateSettingsUpdate { mutability, encryption, resource_tags, policy, lifecycle } = settings;
        set(&mut template.description, description);
        set(&mut template.applied_for, applied_for);
        set(&mut template.custom_role_arn, custom_role_arn);
        set(&mut template.settings.mutability, mutability);
        set(&mut template.settings.encryption, encryption);
        set(&mut template.settings.resource_tags, resource_tags);
        set(&mut template.settings.policy, policy);
        set(&mut template.settings.lifecycle, lifecycle);
        check_resource_tags(&template.settings.resource_tags)?;
        self.put_template(template)
    }

    pub(super) fn delete_template(&mut self, prefix: Prefix) -> Result<Outcome, Halt> {
        let Some(template) = self.template(&prefix)? else { return Err(Refusal::TemplateMissing(prefix).into()) };
        self.remove(TEMPLATES, key(&prefix))?;
        self.counters.templates = self.counters.templates.saturating_sub(1);
        Ok(Outcome::Template(Box::new(template)))
    }

    fn put_template(&mut self, template: Template) -> Result<Outcome, Halt> {
        let template = Template { updated_at: self.meta.time, ..template };
        self.put(TEMPLATES, key(&template.prefix), &template)?;
        Ok(Outcome::Template(Box::new(template)))
    }

    fn template(&self, prefix: &Prefix) -> Result<Option<Template>, StoreError> {
        self.tables().row(TEMPLATES, &key(prefix))
    }
}

fn set<T>(field: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *field = new;
    }
}

fn key(prefix: &Prefix) -> Vec<u8> {
    prefix.as_str().as_bytes().to_vec()
}
