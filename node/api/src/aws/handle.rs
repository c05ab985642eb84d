use std::future::Future;

use flotilla_aws::{ErrorCode, Operation, validate::InvalidParameter};
use flotilla_oci::Name;
use flotilla_registry::access::{Action, Resource};
use flotilla_service::{Permit, ServiceError, Services};

use super::AwsError;
use crate::{Door, http::Arrival};

/// How this server does an operation of the contract. Its row has checked the input and asked for the permission before
/// `handle` runs.
pub(super) trait Handle: Operation {
    const ACTION: Action;

    /// What the action is done to.
    ///
    /// # Errors
    /// Only for an input that breaks a constraint.
    fn resource(input: &Self::Input) -> Result<Resource, InvalidParameter>;

    fn handle(call: Call<'_>, input: Self::Input) -> impl Future<Output = Result<Self::Output, Failure>> + Send;
}

/// One permitted call.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) door: &'a Door,
    pub(super) arrival: &'a Arrival,
    pub(super) permit: Permit<'a>,
}

/// Why a call failed; its row turns it into a code.
pub(super) enum Failure {
    Service(ServiceError),
    Aws(AwsError),
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

impl From<AwsError> for Failure {
    fn from(error: AwsError) -> Self {
        Self::Aws(error)
    }
}

impl From<InvalidParameter> for Failure {
    fn from(error: InvalidParameter) -> Self {
        Self::Aws(error.into())
    }
}

impl<'a> Call<'a> {
    pub(super) fn services(&self) -> &'a Services {
        &self.door.services
    }

    /// The region of the caller's signature: a label in replies (`requirements.md` A).
    pub(super) fn region(&self) -> String {
        let region = self.permit.caller().region.clone().filter(|region| !region.is_empty());
        region.unwrap_or_else(|| self.services().cluster.home_region())
    }

    /// The registry that the call is for, which is ours or none.
    ///
    /// # Errors
    /// For another one: nothing of it is told.
    pub(super) fn registry(&self, asked: Option<&str>) -> Result<String, Failure> {
        let account = self.door.account_id();
        match asked {
            Some(other) if other != account => {
                Err(InvalidParameter::new("registryId", format!("no registry with id '{other}' is served here")).into())
            }
            _ => Ok(account),
        }
    }

    /// As [`Call::registry`], for a call about one repository, which another registry does not have.
    ///
    /// # Errors
    /// `RepositoryNotFoundException`.
    pub(super) fn registry_of(&self, asked: Option<&str>, repository: &str) -> Result<String, Failure> {
        let account = self.door.account_id();
        match asked {
            Some(other) if other != account => Err(AwsError::new(
                ErrorCode::REPOSITORY_NOT_FOUND,
                format!("The repository with name '{repository}' does not exist in the registry with id '{other}'"),
            )
            .into()),
            _ => Ok(account),
        }
    }
}

/// # Errors
/// For a name that breaks the grammar.
pub(super) fn repository(member: &'static str, name: &str) -> Result<Name, InvalidParameter> {
    name.parse().map_err(|_| InvalidParameter::new(member, "is not a repository name"))
}

/// # Errors
/// As [`repository`].
pub(super) fn repository_resource(name: &str) -> Result<Resource, InvalidParameter> {
    repository("repositoryName", name).map(Resource::Repository)
}
