use flotilla_oci::Digest;
use flotilla_registry::cache_rule::Origin;
use flotilla_runtime::BoxFuture;
use flotilla_upstream::{Download, Turn};

use crate::{Origins, Proof, TransferError, shares::Site};

/// What the data plane asks of an origin: the seam at which tests put a scripted one.
pub(crate) trait Fetch: Send + Sync + 'static {
    /// Opens a blob at byte `from`, when it is that turn.
    fn open<'a>(
        &'a self,
        origin: &'a Origin,
        digest: &'a Digest,
        from: u64,
        turn: Turn,
    ) -> BoxFuture<'a, Result<Download, TransferError>>;

    fn prove<'a>(
        &'a self,
        origin: &'a Origin,
        digest: &'a Digest,
        turn: Turn,
    ) -> BoxFuture<'a, Result<Proof, TransferError>>;

    /// The origin is believed without its bytes.
    fn is_trusted(&self, origin: &Origin) -> bool;

    /// Where it leads; `None` when it cannot be asked, which asking will say.
    fn site(&self, origin: &Origin) -> Option<Site>;
}

impl Fetch for Origins {
    fn open<'a>(
        &'a self,
        origin: &'a Origin,
        digest: &'a Digest,
        from: u64,
        turn: Turn,
    ) -> BoxFuture<'a, Result<Download, TransferError>> {
        Box::pin(async move {
            let resolved = self.resolve(origin).map_err(TransferError::Origin)?;
            let opened = resolved.upstream.on_behalf_of(turn).blob(&resolved.name, digest, from).await;
            opened.map_err(|error| TransferError::of_upstream(digest, error))
        })
    }

    fn prove<'a>(
        &'a self,
        origin: &'a Origin,
        digest: &'a Digest,
        turn: Turn,
    ) -> BoxFuture<'a, Result<Proof, TransferError>> {
        Box::pin(async move {
            let resolved = self.resolve(origin).map_err(TransferError::Origin)?;
            let head = resolved.upstream.on_behalf_of(turn).blob_head(&resolved.name, digest).await;
            let head = head.map_err(|error| TransferError::of_upstream(digest, error))?;
            Ok(Proof { len: head.len, trusted: resolved.trust_head })
        })
    }

    fn is_trusted(&self, origin: &Origin) -> bool {
        self.resolve(origin).is_ok_and(|resolved| resolved.trust_head)
    }

    fn site(&self, origin: &Origin) -> Option<Site> {
        let resolved = self.resolve(origin).ok()?;
        // The other half is for fills, whose pace no client sets.
        Some(Site { passes: resolved.upstream.blobs_at_once() / 2, host: resolved.host })
    }
}
