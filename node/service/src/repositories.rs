//! Repositories and their settings.

use std::{collections::BTreeMap, sync::Arc};

use flotilla_oci::Name;
use flotilla_registry::{
    Refusal, Repository,
    image::ImageId,
    repository::{Mutability, RepositorySettings},
};
use flotilla_runtime::Published;
use flotilla_state::{ImageDeletion, Op, Outcome, View};

use crate::{Parts, Permit, ServiceError, access::Policy, proposer::Proposer};

/// Images that one command deletes: a few milliseconds of apply.
const SLICE: usize = 200;

/// Repositories that one listing looks at: a caller who may see few of many gets a short page and goes on from it.
const SCAN: usize = 5_000;

/// Lists may name lists; deeper nesting than this goes with the repository itself.
const PASSES: usize = 8;

pub struct Repositories {
    view: Published<View>,
    policy: Arc<Policy>,
    proposer: Proposer,
}

#[derive(Clone, Debug)]
pub struct NewRepository {
    pub name: Name,
    pub settings: RepositorySettings,
}

impl Repositories {
    pub(crate) fn new(parts: &Parts, policy: Arc<Policy>, proposer: Proposer) -> Self {
        Self { view: parts.view.clone(), policy, proposer }
    }

    /// Uses no template: those are for repositories that nobody creates explicitly.
    ///
    /// # Errors
    /// `Refused(RepositoryExists)`, `Refused(TooManyTags)`.
    pub async fn create(&self, permit: Permit<'_>, new: NewRepository) -> Result<Repository, ServiceError> {
        let NewRepository { name, settings } = new;
        self.change(permit, Op::CreateRepository { name, settings: Box::new(settings) }).await
    }

    /// One repository; "no" only after a barrier.
    ///
    /// # Errors
    /// `Refused(NoRepository)`.
    pub async fn get(&self, _: Permit<'_>, name: &Name) -> Result<Repository, ServiceError> {
        find(&self.view, &self.proposer, name).await
    }

    /// Repositories that the caller may see after `after` in the order of their names, at most `limit`; and the name to
    /// go on from when there may be more, which may be one that he may not know.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn list(
        &self,
        permit: Permit<'_>,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<(Vec<Repository>, Option<Name>), ServiceError> {
        let viewer = self.policy.viewer(permit.caller())?;
        let mut found = Vec::new();
        let mut after = after.cloned();
        let mut seen = 0;
        while seen < SCAN {
            let wanted = if viewer.sees_all() { limit.saturating_add(1) } else { SCAN - seen };
            let page = self.view.load().tables().repositories(after.as_ref(), wanted)?;
            if page.is_empty() {
                return Ok((found, None));
            }
            for repository in page {
                if found.len() == limit {
                    return Ok((found, after));
                }
                seen += 1;
                after = Some(repository.name.clone());
                if viewer.sees_all() || viewer.sees(&repository.name)? {
                    found.push(repository);
                }
            }
            // Other requests go on meanwhile.
            tokio::task::yield_now().await;
        }
        Ok((found, after))
    }

    /// # Errors
    /// `Refused(NoRepository)`, and without `force` `Refused(RepositoryNotEmpty)`.
    pub async fn delete(&self, permit: Permit<'_>, name: &Name, force: bool) -> Result<Repository, ServiceError> {
        if force {
            self.empty(name).await?;
        }
        self.change(permit, Op::DeleteRepository { name: name.clone(), force }).await
    }

    /// # Errors
    /// `Refused(NoRepository)`.
    pub async fn put_mutability(
        &self,
        permit: Permit<'_>,
        name: &Name,
        mutability: Mutability,
    ) -> Result<Repository, ServiceError> {
        self.change(permit, Op::PutMutability { name: name.clone(), mutability }).await
    }

    /// # Errors
    /// `Refused(NoRepository)`.
    pub async fn put_scan_on_push(
        &self,
        permit: Permit<'_>,
        name: &Name,
        scan_on_push: bool,
    ) -> Result<Repository, ServiceError> {
        self.change(permit, Op::PutScanOnPush { name: name.clone(), scan_on_push }).await
    }

    /// Sets and removes resource tags; all of it or nothing.
    ///
    /// # Errors
    /// `Refused(NoRepository)`, `Refused(TooManyTags)`.
    pub async fn tag(
        &self,
        permit: Permit<'_>,
        name: &Name,
        put: BTreeMap<String, String>,
        remove: Vec<String>,
    ) -> Result<(), ServiceError> {
        self.proposer.propose(permit, Op::TagRepository { name: name.clone(), put, remove }).await?;
        Ok(())
    }

    /// Deletes the images of a large repository in slices: one command for all of them would hold up every reader of the
    /// state while it is applied. What a list still names goes in the next pass, and what comes meanwhile with the
    /// repository.
    async fn empty(&self, name: &Name) -> Result<(), ServiceError> {
        if self.view.load().tables().images(name, None, SLICE + 1)?.len() <= SLICE {
            return Ok(());
        }
        for _ in 0..PASSES {
            let (mut after, mut deleted) = (None, 0);
            loop {
                let page = self.view.load().tables().images(name, after.as_ref(), SLICE)?;
                let Some(last) = page.last() else { break };
                after = Some(last.digest);
                let images = page.iter().map(|image| ImageId { digest: Some(image.digest), tag: None }).collect();
                let op = Op::DeleteImages { repository: name.clone(), images };
                let Outcome::ImagesDeleted(done) = self.proposer.propose_as_node(op).await? else {
                    return Err(ServiceError::Unexpected("DeleteImages"));
                };
                deleted += done.iter().filter(|one| matches!(one, ImageDeletion::Deleted { .. })).count();
            }
            if deleted == 0 {
                break;
            }
        }
        Ok(())
    }

    async fn change(&self, permit: Permit<'_>, op: Op) -> Result<Repository, ServiceError> {
        match self.proposer.propose(permit, op).await? {
            Outcome::Repository(repository) => Ok(*repository),
            _ => Err(ServiceError::Unexpected("a change of a repository")),
        }
    }
}

/// One repository; "no" only after a barrier (13).
pub(crate) async fn find(view: &Published<View>, proposer: &Proposer, name: &Name) -> Result<Repository, ServiceError> {
    if let Some(repository) = view.load().tables().repository(name)? {
        return Ok(repository);
    }
    proposer.barrier().await?;
    let repository = view.load().tables().repository(name)?;
    Ok(repository.ok_or_else(|| Refusal::NoRepository(name.clone()))?)
}
