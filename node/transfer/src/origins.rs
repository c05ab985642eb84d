use std::sync::Arc;

use flotilla_oci::Name;
use flotilla_registry::{
    Prefix,
    cache_rule::{CacheRule, Origin},
    upstream::is_built_in,
};
use flotilla_runtime::Published;
use flotilla_state::View;
use flotilla_storage::Keyring;
use flotilla_upstream::{Upstream, Upstreams};

use crate::credentials::{CredentialError, Credentials};

/// From an origin to somebody to ask. The fill asks for blobs, `service::pull` for manifests: one client, one budget and
/// one token cache for both.
pub struct Origins {
    view: Published<View>,
    upstreams: Upstreams,
    credentials: Credentials,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum OriginError {
    #[error("cache rule '{0}' is gone")]
    NoRule(Prefix),
    #[error("the credential of cache rule '{rule}' cannot be used")]
    Credential {
        rule: Prefix,
        #[source]
        source: CredentialError,
    },
}

/// Somebody to ask, and under which name.
pub struct Resolved {
    /// The upstream's canonical host: the key of its limits and its breaker.
    pub host: String,
    pub upstream: Arc<Upstream>,
    pub name: Name,
    pub rule_version: u64,
    /// A built-in host, believed when it answers HEAD for a blob (`protocols.md` §2.8).
    pub trust_head: bool,
}

impl Origins {
    pub fn new(view: Published<View>, upstreams: Upstreams, keyring: Arc<Keyring>) -> Self {
        Self { view, upstreams, credentials: Credentials::new(keyring) }
    }

    /// # Errors
    /// When the rule is gone, or its credential cannot be used.
    pub fn resolve(&self, origin: &Origin) -> Result<Resolved, OriginError> {
        let view = self.view.load();
        let rule = view.rules.get(&origin.rule).ok_or_else(|| OriginError::NoRule(origin.rule.clone()))?;
        let account = self.credentials.account(&view, rule, &self.upstreams);
        let account = account.map_err(|source| OriginError::Credential { rule: origin.rule.clone(), source })?;
        Ok(Resolved {
            upstream: self.upstreams.client(&account),
            name: origin.name.clone(),
            rule_version: rule.version,
            trust_head: is_built_in(&rule.upstream_host),
            host: rule.upstream_host.clone(),
        })
    }

    /// Why the upstream of `rule` cannot be asked at all; it is not asked now.
    ///
    /// # Errors
    /// What is wrong with the rule's credential.
    pub fn check_credential(&self, rule: &CacheRule) -> Result<(), CredentialError> {
        self.credentials.account(&self.view.load(), rule, &self.upstreams).map(|_| ())
    }
}
