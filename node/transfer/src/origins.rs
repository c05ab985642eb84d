use std::sync::Arc;

use flotilla_oci::Name;
use flotilla_registry::{Prefix, cache_rule::Origin, upstream::is_built_in};
use flotilla_runtime::Published;
use flotilla_state::View;
use flotilla_upstream::{Account, Upstream, Upstreams};

/// From an origin to somebody to ask. The fill asks for blobs, `service::pull` for manifests: one client, one budget and
/// one token cache for both.
pub struct Origins {
    view: Published<View>,
    upstreams: Upstreams,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum OriginError {
    #[error("cache rule '{0}' is gone")]
    NoRule(Prefix),
    #[error("the credential of cache rule '{0}' cannot be used")]
    Credential(Prefix),
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
    pub fn new(view: Published<View>, upstreams: Upstreams) -> Self {
        Self { view, upstreams }
    }

    /// # Errors
    /// When the rule is gone, or its credential cannot be used.
    pub fn resolve(&self, origin: &Origin) -> Result<Resolved, OriginError> {
        let view = self.view.load();
        let rule = view.rules.get(&origin.rule).ok_or_else(|| OriginError::NoRule(origin.rule.clone()))?;
        // Never as anonymous instead: what that account sees is not what the operator meant.
        if rule.credential_arn.is_some() {
            return Err(OriginError::Credential(origin.rule.clone()));
        }
        let account = Account { host: rule.upstream_host.clone(), credential: None };
        Ok(Resolved {
            upstream: self.upstreams.client(&account),
            name: origin.name.clone(),
            rule_version: rule.version,
            trust_head: is_built_in(&rule.upstream_host),
            host: rule.upstream_host.clone(),
        })
    }
}
