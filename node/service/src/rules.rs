//! Pull through cache rules.

use std::time::Duration;

use flotilla_oci::Name;
use flotilla_registry::{Prefix, cache_rule::CacheRule};
use serde::Deserialize;

use crate::{Parts, Permit, ServiceError, proposer::Proposer};

/// `[rules]` of the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RulesConfig {
    /// Upstream hosts that are allowed beside the built-in list, as `host[:port]`, or `http://host[:port]` for one that
    /// speaks no TLS.
    pub allowed_upstreams: Vec<String>,
}

pub struct Rules {}

/// A rule as a caller asks for it; constraints of the wire are checked by the door, meaning here.
#[derive(Clone, Debug)]
pub struct NewCacheRule {
    pub prefix: Prefix,
    pub upstream_url: String,
    pub upstream_registry: Option<String>,
    pub upstream_prefix: Option<String>,
    pub credential_arn: Option<String>,
    pub custom_role_arn: Option<String>,
    pub revalidate_after: Option<Duration>,
    pub is_default: bool,
}

/// What a name would mean.
#[derive(Clone, Debug)]
pub struct Check {
    pub repository: Name,
    pub rule: Option<CacheRule>,
    pub upstream_name: Option<Name>,
    pub template: Option<Prefix>,
    pub repository_exists: bool,
    pub notes: Vec<String>,
}

impl Rules {
    pub(crate) fn new(parts: &Parts, config: RulesConfig, proposer: Proposer) -> Self {
        todo!()
    }

    pub async fn create(&self, permit: Permit<'_>, new: NewCacheRule) -> Result<CacheRule, ServiceError> {
        todo!()
    }

    /// The named rules in the order of the request, or every rule after `after`, at most `limit`.
    pub async fn describe(
        &self,
        permit: Permit<'_>,
        prefixes: Option<&[Prefix]>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<CacheRule>, ServiceError> {
        todo!()
    }

    pub async fn update(
        &self,
        permit: Permit<'_>,
        prefix: &Prefix,
        credential_arn: Option<String>,
        custom_role_arn: Option<String>,
        revalidate_after: Option<Duration>,
    ) -> Result<CacheRule, ServiceError> {
        todo!()
    }

    pub async fn delete(&self, permit: Permit<'_>, prefix: &Prefix) -> Result<CacheRule, ServiceError> {
        todo!()
    }

    /// Asks the upstream with the rule's credential; the inner `Err` says which step failed and why.
    pub async fn validate(
        &self,
        permit: Permit<'_>,
        prefix: &Prefix,
    ) -> Result<(CacheRule, Result<(), String>), ServiceError> {
        todo!()
    }

    /// What `name` means, without asking anybody.
    pub fn check(&self, permit: Permit<'_>, name: &Name) -> Result<Check, ServiceError> {
        todo!()
    }
}
