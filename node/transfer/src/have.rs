use flotilla_base::NodeId;
use flotilla_oci::Digest;
use flotilla_runtime::BoxFuture;

/// Presence is asked, never recorded (`protocols.md` §1).
pub trait Have: Send + Sync + 'static {
    /// Other nodes that hold `digest`, sealed or growing, the best one first. A node that does not answer in time is
    /// not among them. Cancel safe.
    fn holders<'a>(&'a self, digest: &'a Digest) -> BoxFuture<'a, Vec<NodeId>>;
}

/// A cluster of one node: what is not here is nowhere.
pub struct LocalOnly;

impl Have for LocalOnly {
    fn holders<'a>(&'a self, _digest: &'a Digest) -> BoxFuture<'a, Vec<NodeId>> {
        Box::pin(std::future::ready(Vec::new()))
    }
}
