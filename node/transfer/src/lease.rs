use std::fmt;

use flotilla_base::NodeId;
use flotilla_oci::{Digest, Name, Tag};
use flotilla_runtime::BoxFuture;

/// What only one node of a cluster does at a time (`protocols.md` §1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseKey {
    /// Fetching a blob.
    Fill(Digest),
    /// Validating a tag, or importing it.
    Tag(Name, Tag),
    /// Importing a manifest by its digest.
    Manifest(Name, Digest),
}

impl fmt::Display for LeaseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fill(digest) => write!(f, "fill/{digest}"),
            Self::Tag(repository, tag) => write!(f, "tag/{repository}:{tag}"),
            Self::Manifest(repository, digest) => write!(f, "man/{repository}@{digest}"),
        }
    }
}

/// The lock of the cluster's fetches. It keeps them from being done twice; that they are right rests on digests and
/// versions alone.
pub trait Lease: Send + Sync + 'static {
    /// Waits until the lease is this node's, or known to be another's. Cancel safe: a dropped claim holds nothing.
    fn claim<'a>(&'a self, key: &'a LeaseKey) -> BoxFuture<'a, Result<Box<dyn LeaseGuard>, HeldBy>>;
}

/// A lease of this node, released when it is dropped.
pub trait LeaseGuard: Send + Sync {
    /// Asked before each request to an upstream and each piece of a body: a node that was stopped and comes back finds
    /// that its lease is over, and stops by itself.
    fn is_valid(&self) -> bool;
}

/// Another node is doing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBy(pub NodeId);

/// A cluster of one node: whatever it wants, it may.
pub struct AlwaysGranted;

struct Granted;

impl Lease for AlwaysGranted {
    fn claim<'a>(&'a self, _key: &'a LeaseKey) -> BoxFuture<'a, Result<Box<dyn LeaseGuard>, HeldBy>> {
        Box::pin(std::future::ready(Ok(Box::new(Granted) as Box<dyn LeaseGuard>)))
    }
}

impl LeaseGuard for Granted {
    fn is_valid(&self) -> bool {
        true
    }
}
