//! Repositories and their settings.

use std::collections::BTreeMap;

use flotilla_oci::Name;
use flotilla_registry::{
    Repository,
    repository::{Mutability, RepositorySettings},
};

use crate::{Parts, Permit, ServiceError, proposer::Proposer};

pub struct Repositories {}

#[derive(Clone, Debug)]
pub struct NewRepository {
    pub name: Name,
    pub settings: RepositorySettings,
}

impl Repositories {
    pub(crate) fn new(parts: &Parts, proposer: Proposer) -> Self {
        todo!()
    }

    pub async fn create(&self, permit: Permit<'_>, new: NewRepository) -> Result<Repository, ServiceError> {
        todo!()
    }

    /// One repository; "no" only after a barrier.
    pub async fn get(&self, permit: Permit<'_>, name: &Name) -> Result<Repository, ServiceError> {
        todo!()
    }

    /// Repositories after `after` in the order of their names, at most `limit`.
    pub async fn list(
        &self,
        permit: Permit<'_>,
        after: Option<&Name>,
        limit: usize,
    ) -> Result<Vec<Repository>, ServiceError> {
        todo!()
    }

    pub async fn delete(&self, permit: Permit<'_>, name: &Name, force: bool) -> Result<Repository, ServiceError> {
        todo!()
    }

    pub async fn put_mutability(
        &self,
        permit: Permit<'_>,
        name: &Name,
        mutability: Mutability,
    ) -> Result<Repository, ServiceError> {
        todo!()
    }

    pub async fn put_scan_on_push(
        &self,
        permit: Permit<'_>,
        name: &Name,
        scan_on_push: bool,
    ) -> Result<Repository, ServiceError> {
        todo!()
    }

    pub async fn tag(
        &self,
        permit: Permit<'_>,
        name: &Name,
        put: BTreeMap<String, String>,
        remove: Vec<String>,
    ) -> Result<(), ServiceError> {
        todo!()
    }
}
