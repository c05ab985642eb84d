use std::task::{Context, Poll};

use bytes::Bytes;
use flotilla_base::{ByteLen, ByteRange};
use flotilla_oci::Digest;

use super::StorageError;

/// Reads a blob, sealed or growing. Holds a pin: the blob is not removed while it lives.
pub struct BlobReader(());

impl BlobReader {
    pub fn digest(&self) -> &Digest {
        todo!()
    }

    /// Of the whole blob, whatever the range.
    pub fn len(&self) -> ByteLen {
        todo!()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == ByteLen(0)
    }

    /// Next byte to be handed out: where another source takes over after an error.
    pub fn position(&self) -> u64 {
        todo!()
    }

    /// Narrows to `range`, cut to the blob's length.
    #[must_use]
    pub fn range(self, _range: ByteRange) -> Self {
        todo!()
    }

    /// Another reader of the same blob, over all of it.
    #[must_use]
    pub fn again(&self) -> Self {
        todo!()
    }

    pub fn poll_chunk(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StorageError>>> {
        todo!()
    }

    /// Cancel safe.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, StorageError>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }
}
