//! Blobs by digest: absent, partial (readable while it grows) or sealed.

mod error;
mod partial;
mod reader;
mod store;

pub use error::StorageError;
pub use partial::PartialWriter;
pub use reader::BlobReader;
pub use store::{BlobConfig, BlobStore, BlobUsage, Found};
