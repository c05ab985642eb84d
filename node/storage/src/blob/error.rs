use std::{io, path::PathBuf, sync::Arc};

use flotilla_base::ByteLen;
use flotilla_oci::Digest;
use rustix::io::Errno;

/// Why a blob could not be read or written. Cheap to clone: every reader of a partial that fails gets the same one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    /// The finished bytes have another digest than they were promised under; nothing was published.
    #[error("bytes do not match {digest}")]
    Mismatch { digest: Digest },
    /// `publish` before all bytes were there; the partial is kept.
    #[error("{have} of {len} written of {digest}")]
    Incomplete { digest: Digest, have: ByteLen, len: ByteLen },
    /// More bytes than the length that was announced; the partial is deleted.
    #[error("more than {len} came for {digest}")]
    TooLong { digest: Digest, len: ByteLen },
    /// The blob does not fit the configured size, the reserve of the file system, or the file system itself.
    #[error("no room for {digest}")]
    Full { digest: Digest },
    /// Another writer of this blob lives in this process.
    #[error("{digest} is being written")]
    Busy { digest: Digest },
    /// There is nothing to write: the blob is sealed.
    #[error("{digest} is sealed already")]
    Sealed { digest: Digest },
    /// Readers hold the blob.
    #[error("{digest} is being read")]
    Pinned { digest: Digest },
    /// The writer went away before the blob was whole; what it wrote is kept for the next one.
    #[error("writer of {digest} is gone")]
    Abandoned { digest: Digest },
    /// A piece did not match its BLAKE3: the blob was moved aside and is absent from now on.
    #[error("{digest} is damaged and was quarantined")]
    Quarantined { digest: Digest },
    #[error("cannot {operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: Arc<io::Error> },
}

/// Whether this says that the bytes are lost, not that they cannot be had just now. What file systems with checksums
/// answer is among it.
pub(super) fn is_damage(error: &io::Error) -> bool {
    let lost = [Errno::IO, Errno::BADMSG, Errno::UCLEAN];
    error.kind() == io::ErrorKind::InvalidData || Errno::from_io_error(error).is_some_and(|errno| lost.contains(&errno))
}

impl StorageError {
    pub(super) fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }
}
