//! Blobs by digest: absent, partial (readable while it grows) or sealed.

mod buffers;
mod damage;
mod error;
mod lane;
mod layout;
mod live;
mod partial;
mod pieces;
mod reader;
mod resume;
mod seal;
mod space;
mod store;
mod table;

pub use error::StorageError;
pub use partial::PartialWriter;
pub use reader::BlobReader;
pub(crate) use space::StorageClass;
pub use store::{BlobConfig, BlobStore, BlobUsage, Found};

#[cfg(test)]
mod tests;
