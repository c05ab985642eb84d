//! What an earlier writer left: nothing of it is believed that was not hashed again.

use flotilla_oci::Digest;
use flotilla_runtime::{Disk, File, read_file};

use super::{
    StorageError,
    error::is_damage,
    layout::{Paths, io_error},
    partial::HashWork,
    pieces::{self, HASH_BYTES, HEADER_BYTES, Hash, PIECE_BYTES, PieceHasher},
};

/// A prefix whose pieces match the journal, with the digest's hash over it.
pub(super) struct Prefix {
    pub(super) bytes: u64,
    pub(super) hashes: Vec<Hash>,
    pub(super) hash: HashWork,
}

/// Longest outboard or journal that is read: that of a blob of 16 TiB.
const JOURNAL_LIMIT_BYTES: u64 = 512 << 20;

/// As much of `into` as the file has from `offset` on.
pub(super) fn read_at(file: &dyn File, offset: u64, into: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < into.len() {
        match file.read_at(offset + filled as u64, &mut into[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Hashes `file` piece by piece, until it ends or `expected` says otherwise.
///
/// # Errors
/// Those of the disk.
pub(super) fn hash_prefix(
    file: &dyn File,
    digest: &Digest,
    len: u64,
    expected: Option<&[Hash]>,
) -> std::io::Result<Prefix> {
    let mut prefix = Prefix { bytes: 0, hashes: Vec::new(), hash: HashWork::new(digest.algorithm()) };
    let mut buffer = vec![0; PIECE_BYTES.min(len) as usize];
    while prefix.bytes < len {
        let piece = &mut buffer[..(pieces::end_of(prefix.bytes, len) - prefix.bytes) as usize];
        if read_at(file, prefix.bytes, piece)? < piece.len() {
            break;
        }
        let Some(hash) = PieceHasher::whole(prefix.bytes, len, piece) else { break };
        if expected.is_some_and(|expected| expected.get(prefix.hashes.len()) != Some(&hash)) {
            break;
        }
        prefix.hash.0.update(piece);
        prefix.hashes.push(hash);
        prefix.bytes += piece.len() as u64;
    }
    Ok(prefix)
}

/// Reads an outboard or a journal; `None` when it is absent, or damaged so that it cannot be read: both are made again.
///
/// # Errors
/// Those of the disk.
pub(super) fn read_pieces(disk: &dyn Disk, paths: &Paths) -> Result<Option<Vec<u8>>, StorageError> {
    match read_file(disk, &paths.pieces, JOURNAL_LIMIT_BYTES) {
        Err(error) if is_damage(&error) => {
            tracing::warn!(path = %paths.pieces.display(), %error, "hashes of a blob's pieces cannot be read");
            Ok(None)
        }
        read => read.map_err(io_error("read", &paths.pieces)),
    }
}

/// Takes up the partial in `data` and cuts it and its journal to what matches.
///
/// # Errors
/// Those of the disk.
pub(super) fn take_up(
    data: &dyn File,
    journal: &dyn File,
    paths: &Paths,
    digest: &Digest,
    len: u64,
    content: &[u8],
) -> Result<Prefix, StorageError> {
    let expected = pieces::parse_journal(content, len).unwrap_or_default();
    let prefix = hash_prefix(data, digest, len, Some(&expected)).map_err(io_error("read", &paths.data))?;
    data.set_len(prefix.bytes).map_err(io_error("cut", &paths.data))?;
    let journal_bytes = HEADER_BYTES + prefix.hashes.len() * HASH_BYTES;
    let cut = journal.write_at(0, &pieces::header(len, None)).and_then(|()| journal.set_len(journal_bytes as u64));
    cut.map_err(io_error("cut", &paths.pieces))?;
    Ok(prefix)
}
