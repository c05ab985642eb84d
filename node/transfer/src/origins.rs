use std::sync::Arc;

use flotilla_base::store::StoreError;
use flotilla_oci::Name;
use flotilla_registry::{Prefix, cache_rule::Origin};
use flotilla_runtime::Published;
use flotilla_state::View;
use flotilla_upstream::{Upstream, Upstreams};

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
        todo!()
    }
}
