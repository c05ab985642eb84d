//! Repositories: made by a caller or by a first pull, changed, deleted with all that is theirs.

use std::collections::BTreeMap;

use flotilla_base::store::{StoreError, Table};
use flotilla_oci::Name;
use flotilla_registry::{
    Prefix, Refusal, Repository, cache_rule::CacheRule, repository::RepositorySettings, template::Scenario,
};

use super::{Applier, Halt};
use crate::{
    Outcome,
    format::{
        IMAGES, LINKS, PRIVATE_REPOSITORIES, REPOSITORIES, TAGS, TAGS_BY_DIGEST, empty_row, in_repository, read_digest,
    },
};

/// AWS's own limit on the resource tags of anything.
const RESOURCE_TAGS_MAX: usize = 50;

/// Rows that a deletion reads at once.
const PAGE: usize = 256;

impl Applier<'_, '_> {
    pub(super) fn create_repository(&mut self, name: Name, settings: RepositorySettings) -> Result<Outcome, Halt> {
        check_resource_tags(&settings.resource_tags)?;
        if self.tables().repository(&name)?.is_some() {
            return Err(Refusal::RepositoryExists(name).into());
        }
        let repository = self.put_new_repository(name, None, settings)?;
        Ok(Outcome::Repository(Box::new(repository)))
    }

    /// What a repository that a pull through `rule` makes is made of; nothing is written.
    pub(super) fn settings_from_template(&self, name: &Name) -> Result<RepositorySettings, Halt> {
        let creation = self.tables().settings()?.repository_creation;
        Ok(self.tables().templates()?.settings_for(name, Scenario::PullThroughCache, creation)?)
    }

    pub(super) fn put_new_repository(
        &mut self,
        name: Name,
        cached_by: Option<Prefix>,
        settings: RepositorySettings,
    ) -> Result<Repository, StoreError> {
        self.meta.last_incarnation += 1;
        self.counters.repositories += 1;
        let (created_at, incarnation) = (self.meta.time, self.meta.last_incarnation);
        let repository = Repository { name, created_at, incarnation, cached_by, settings };
        self.put(REPOSITORIES, repository.name.as_str().as_bytes().to_vec(), &repository)?;
        Ok(repository)
    }

    /// What came through a credential stays what only that account may see, whatever becomes of the rule: said of the
    /// repository, because a rule can be deleted, replaced, or covered by a longer one.
    pub(super) fn mark_private(&mut self, name: &Name, rule: Option<&CacheRule>) -> Result<(), StoreError> {
        let sealed = rule.is_some_and(|rule| rule.credential_arn.is_some());
        if sealed && !self.tables().is_private(name)? {
            self.overlay.write(PRIVATE_REPOSITORIES, name.as_str().as_bytes().to_vec(), Some(empty_row()))?;
        }
        Ok(())
    }

    pub(super) fn delete_repository(&mut self, name: Name, force: bool) -> Result<Outcome, Halt> {
        let Some(repository) = self.tables().repository(&name)? else { return Err(Refusal::NoRepository(name).into()) };
        if !force && !self.tables().images(&name, None, 1)?.is_empty() {
            return Err(Refusal::RepositoryNotEmpty(name).into());
        }
        self.each_row(TAGS, &name, |applier, key, _| applier.remove(TAGS, key))?;
        self.each_row(TAGS_BY_DIGEST, &name, |applier, key, _| applier.remove(TAGS_BY_DIGEST, key))?;
        self.each_row(IMAGES, &name, |applier, _, rest| {
            let digest = read_digest(IMAGES, rest)?;
            applier.forget_image(&name, &digest)
        })?;
        self.each_row(LINKS, &name, |applier, key, rest| {
            let digest = read_digest(LINKS, rest)?;
            applier.remove(LINKS, key)?;
            applier.change_blob(&digest, |blob| blob.links = blob.links.saturating_sub(1))
        })?;
        self.remove(REPOSITORIES, name.as_str().as_bytes().to_vec())?;
        self.remove(PRIVATE_REPOSITORIES, name.as_str().as_bytes().to_vec())?;
        self.counters.repositories = self.counters.repositories.saturating_sub(1);
        Ok(Outcome::Repository(Box::new(repository)))
    }

    /// Calls `each` with the whole key and with what follows the repository in it.
    fn each_row(
        &mut self,
        table: Table,
        name: &Name,
        mut each: impl FnMut(&mut Self, Vec<u8>, &[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let prefix = in_repository(name);
        let mut after = None;
        loop {
            let page = self.tables().under(table, &prefix, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (rest, _) in &page {
                each(self, [prefix.as_slice(), rest].concat(), rest)?;
            }
        }
    }

    pub(super) fn change_repository(
        &mut self,
        name: Name,
        change: impl FnOnce(&mut RepositorySettings),
    ) -> Result<Outcome, Halt> {
        let Some(mut repository) = self.tables().repository(&name)? else {
            return Err(Refusal::NoRepository(name).into());
        };
        change(&mut repository.settings);
        check_resource_tags(&repository.settings.resource_tags)?;
        self.put(REPOSITORIES, name.as_str().as_bytes().to_vec(), &repository)?;
        Ok(Outcome::Repository(Box::new(repository)))
    }

    pub(super) fn tag_repository(
        &mut self,
        name: Name,
        put: BTreeMap<String, String>,
        remove: &[String],
    ) -> Result<Outcome, Halt> {
        self.change_repository(name, |settings| {
            for key in remove {
                settings.resource_tags.remove(key);
            }
            settings.resource_tags.extend(put);
        })
    }
}

pub(super) fn check_resource_tags(tags: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if tags.len() > RESOURCE_TAGS_MAX {
        return Err(Refusal::TooManyTags(RESOURCE_TAGS_MAX as u64));
    }
    Ok(())
}
