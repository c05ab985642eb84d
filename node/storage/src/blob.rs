//! Blobs by digest: absent, partial (readable while it grows) or sealed.

mod begin;
mod buffers;
mod damage;
mod error;
mod evict;
mod ghosts;
mod lane;
mod layout;
mod live;
mod marks;
mod partial;
mod pieces;
mod reader;
mod resume;
mod seal;
mod space;
mod store;
mod table;
mod uses;

pub use error::StorageError;
pub use evict::{Everything, Evictable};
pub use partial::PartialWriter;
pub use reader::BlobReader;
pub(crate) use space::StorageClass;
pub use store::{BlobConfig, BlobStore, BlobUsage, Found};

#[cfg(test)]
mod tests;
