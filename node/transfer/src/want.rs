use flotilla_base::NodeId;
use flotilla_oci::Digest;
use flotilla_runtime::BoxFuture;
use flotilla_upstream::Download;

/// Takes a blob from another node that holds it (`protocols.md` §1).
pub trait Want: Send + Sync + 'static {
    /// Opens the blob at byte `from`; `None` when that node does not have it or cannot be reached. Cancel safe.
    fn open<'a>(&'a self, node: NodeId, digest: &'a Digest, from: u64) -> BoxFuture<'a, Option<Download>>;
}

/// A cluster of one node: there is nobody to take anything from.
pub struct NobodyElse;

impl Want for NobodyElse {
    fn open<'a>(&'a self, _node: NodeId, _digest: &'a Digest, _from: u64) -> BoxFuture<'a, Option<Download>> {
        Box::pin(std::future::ready(None))
    }
}
