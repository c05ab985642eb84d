use std::path::{Path, PathBuf};

use flotilla_base::Secret;
use flotilla_registry::Sealed;
use flotilla_runtime::Host;

/// The cluster's sealing keys, in a file of mode 0600.
pub struct Keyring(());

#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error("cannot {operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} may be read by others (mode {mode:o}): chmod it to 0600", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} is not a keyring", path.display())]
    Malformed { path: PathBuf, source: flotilla_base::codec::CodecError },
    #[error("{} holds no key", path.display())]
    NoKey { path: PathBuf },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("sealed under key {0}, which this node does not have")]
    UnknownKey(u32),
    #[error("sealed in format {0}, which is not known here")]
    UnknownFormat(u8),
    /// Damaged, or sealed for another purpose.
    #[error("sealed value does not open")]
    Refused,
}

impl Keyring {
    /// `dir` is the keyring's own folder.
    pub fn open_or_create(_host: &Host, _dir: &Path) -> Result<Self, KeyringError> {
        todo!()
    }
    pub fn seal(&self, _purpose: &str, _plaintext: &[u8]) -> Sealed {
        todo!()
    }
    pub fn open(&self, _purpose: &str, _sealed: &Sealed) -> Result<Secret, OpenError> {
        todo!()
    }
}
