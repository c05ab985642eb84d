//! Who is it, and may he? One place for every door.

use std::{net::IpAddr, sync::Arc, time::Duration};

use flotilla_base::{Secret, Timestamp};
use flotilla_registry::access::{Action, PrincipalArn, Resource};
use serde::Deserialize;

use crate::{Caller, Parts, Permit, ServiceError, proposer::Proposer};

/// `[access]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessConfig {
    pub anonymous: Anonymous,
}

/// What callers without credentials may do. Closed by default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Anonymous {
    /// They may pull what is here and what cache rules cover, and so cause imports.
    pub pull: bool,
}

/// What a door found in a request, before anybody knows whether it is true.
pub enum Credential<'a> {
    None,
    /// docker's `AWS:<token>`, or `<access key id>:<secret>`.
    Basic {
        user: &'a str,
        password: &'a str,
    },
    Bearer(&'a str),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// No credentials, and anonymous callers are not served.
    #[error("authentication required")]
    Required,
    #[error("wrong user name or password")]
    Wrong,
    #[error("token has expired")]
    Expired,
}

pub struct Access {}

impl Access {
    pub(crate) fn new(parts: &Parts, config: AccessConfig, proposer: Proposer) -> Self {
        todo!()
    }

    pub fn anonymous_pull(&self) -> bool {
        todo!()
    }

    /// What SigV4 is verified with; `None` for an unknown or disabled key, told only after a barrier.
    pub async fn signing_key(&self, access_key_id: &str) -> Result<Option<(PrincipalArn, Secret)>, ServiceError> {
        todo!()
    }

    /// Who a registry client is. Wrong credentials are an error even where anonymous callers are served.
    pub async fn sign_in(&self, credential: Credential<'_>) -> Result<PrincipalArn, SignInFailure> {
        todo!()
    }

    /// The password of `docker login` for this principal; contains no colon.
    pub fn login_token(&self, permit: Permit<'_>) -> Result<IssuedToken, ServiceError> {
        todo!()
    }

    /// A short token for the Bearer flow, for whoever [`Access::sign_in`] has found. Permissions are asked at use.
    pub fn bearer_token(
        &self,
        credential: Credential<'_>,
        principal: &PrincipalArn,
    ) -> Result<IssuedToken, ServiceError> {
        todo!()
    }

    /// A yes costs no wait. Before a no this node catches up: what another node has granted and acknowledged counts.
    pub async fn allow<'a>(
        &self,
        caller: &'a Caller,
        action: Action,
        on: &Resource,
    ) -> Result<Permit<'a>, ServiceError> {
        todo!()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum SignInFailure {
    #[error(transparent)]
    Refused(#[from] SignInError),
    #[error(transparent)]
    Service(#[from] ServiceError),
}

pub struct IssuedToken {
    pub token: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}
