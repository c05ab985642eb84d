use std::sync::Arc;

use flotilla_base::{ClusterId, NodeId};
use flotilla_consensus::Consensus;
use flotilla_runtime::{Host, Published};
use flotilla_state::View;
use flotilla_storage::{BlobStore, Keyring};
use flotilla_transfer::{Origins, Transfer};
use flotilla_upstream::Upstreams;

/// What the use cases stand on.
#[derive(Clone)]
pub struct Parts {
    pub node: NodeIdentity,
    pub host: Host,
    pub view: Published<View>,
    pub consensus: Arc<Consensus>,
    pub transfer: Arc<Transfer>,
    pub origins: Arc<Origins>,
    pub upstreams: Upstreams,
    pub blobs: BlobStore,
    pub keyring: Arc<Keyring>,
}

#[derive(Clone, Debug)]
pub struct NodeIdentity {
    pub node: NodeId,
    pub name: String,
    pub cluster: ClusterId,
    pub region: String,
    pub version: &'static str,
}
