//! The keys that open sealed secrets: upstream passwords, access keys, the key of the cluster's CA. They lie in a file
//! of their own, outside sled and outside the replicated state, so that neither a backup of the state nor a damaged
//! store gives them away or takes them along.
//!
//! Each purpose has its own key, derived from the newest cluster key; the purpose is authenticated too. A value sealed
//! for one purpose therefore never opens for another.

use std::{
    io,
    path::{Path, PathBuf},
};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use flotilla_base::{
    ByteLen, Secret,
    codec::{self, CodecError},
};
use flotilla_registry::Sealed;
use flotilla_runtime::{Entropy, Host, read_file, write_private_file};

const FILE_VERSION: u8 = 1;
/// First byte of every sealed value.
const SEALED_VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
/// A keyring of a thousand keys is far below it.
const FILE_LIMIT: ByteLen = ByteLen::kib(64);
/// Never changes: sealed values in the state depend on it.
const DERIVATION: &str = "flotilla 2026-11 keyring: key of a purpose";
/// Group and others.
const FOREIGN_BITS: u32 = 0o077;

/// The cluster's sealing keys, in a file of mode 0600. Values name the key that sealed them; the newest one seals.
pub struct Keyring {
    /// Ascending by id, never empty.
    keys: Vec<(u32, Secret)>,
    entropy: Entropy,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    #[error("cannot {operation} {}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is open to others (mode {mode:o}): take their rights away with chmod go= {}", path.display(), path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} is not a keyring", path.display())]
    Malformed { path: PathBuf, source: CodecError },
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
    /// Reads the keyring in its folder `dir`, or makes both with a first key.
    ///
    /// # Errors
    /// [`KeyringError`]; above all [`KeyringError::Exposed`], rather than to go on with keys that others may have read.
    pub fn open_or_create(host: &Host, dir: &Path) -> Result<Self, KeyringError> {
        let path = dir.join("keys");
        let disk = &*host.disk;
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| KeyringError::Io { operation, path, source }
        };
        disk.create_private_dir(dir).map_err(failed("create", dir))?;
        refuse_exposed(dir, disk.stat(dir).map_err(failed("examine", dir))?.mode)?;
        match disk.stat(&path) {
            Ok(found) => refuse_exposed(&path, found.mode)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let first: [u8; KEY_BYTES] = host.entropy.bytes();
                let content = codec::encode(FILE_VERSION, &vec![(1u32, first)])
                    .map_err(|source| KeyringError::Malformed { path: path.clone(), source })?;
                write_private_file(disk, &path, &content).map_err(failed("write", &path))?;
                tracing::info!(path = %path.display(), "keyring created");
            }
            Err(error) => return Err(failed("examine", &path)(error)),
        }
        let content = read_file(disk, &path, FILE_LIMIT.0).map_err(failed("read", &path))?.unwrap_or_default();
        let keys: Vec<(u32, [u8; KEY_BYTES])> = codec::decode_version(FILE_VERSION, FILE_LIMIT, &content)
            .map_err(|source| KeyringError::Malformed { path: path.clone(), source })?;
        let mut keys: Vec<_> = keys.into_iter().map(|(id, key)| (id, Secret::new(key))).collect();
        keys.sort_by_key(|(id, _)| *id);
        if keys.is_empty() {
            return Err(KeyringError::NoKey { path });
        }
        Ok(Self { keys, entropy: host.entropy.clone() })
    }

    /// # Panics
    /// When `plaintext` is longer than AES-GCM can seal (64 GiB).
    pub fn seal(&self, purpose: &str, plaintext: &[u8]) -> Sealed {
        let (key_id, key) = self.keys.last().expect("a keyring has a key since it was opened");
        let nonce: [u8; NONCE_LEN] = self.entropy.bytes();
        let mut text = plaintext.to_vec();
        cipher(key, purpose)
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound(*key_id, purpose), &mut text)
            .expect("a value in memory is far below 64 GiB");
        let bytes = [&[SEALED_VERSION], nonce.as_slice(), &text].concat();
        Sealed { key_id: *key_id, bytes }
    }

    /// # Errors
    /// [`OpenError`] when the key is not here, or the value is damaged or of another purpose.
    pub fn open(&self, purpose: &str, sealed: &Sealed) -> Result<Secret, OpenError> {
        let unknown = OpenError::UnknownKey(sealed.key_id);
        let (_, key) = self.keys.iter().find(|(id, _)| *id == sealed.key_id).ok_or(unknown)?;
        let (&format, rest) = sealed.bytes.split_first().ok_or(OpenError::Refused)?;
        if format != SEALED_VERSION {
            return Err(OpenError::UnknownFormat(format));
        }
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::Refused)?;
        let mut text = text.to_vec();
        let plain = cipher(key, purpose)
            .open_in_place(Nonce::assume_unique_for_key(*nonce), bound(sealed.key_id, purpose), &mut text)
            .map_err(|_| OpenError::Refused)?;
        let secret = Secret::new(&*plain);
        text.fill(0);
        Ok(secret)
    }
}

fn refuse_exposed(path: &Path, mode: u32) -> Result<(), KeyringError> {
    match mode & FOREIGN_BITS {
        0 => Ok(()),
        _ => Err(KeyringError::Exposed { path: path.to_owned(), mode }),
    }
}

fn cipher(key: &Secret, purpose: &str) -> LessSafeKey {
    let mut derived = blake3::Hasher::new_derive_key(DERIVATION);
    derived.update(key.expose()).update(purpose.as_bytes());
    let key = UnboundKey::new(&AES_256_GCM, derived.finalize().as_bytes()).expect("32 bytes are an AES-256 key");
    LessSafeKey::new(key)
}

/// What is authenticated beside the text.
fn bound(key_id: u32, purpose: &str) -> Aad<Vec<u8>> {
    Aad::from([&key_id.to_be_bytes(), purpose.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, sync::Arc};

    use flotilla_runtime::{Fault, MemoryDisk};

    use super::*;

    fn keyring() -> (tempfile::TempDir, PathBuf, Keyring) {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("n1/keyring");
        let keyring = Keyring::open_or_create(&Host::system(), &dir).unwrap();
        (folder, dir, keyring)
    }

    #[test]
    fn what_is_sealed_opens_after_a_restart_for_its_purpose_only() {
        let (_folder, dir, keyring) = keyring();
        let sealed = keyring.seal("upstream", b"hunter2");
        assert_ne!(sealed.bytes, keyring.seal("upstream", b"hunter2").bytes, "each nonce is new");
        let again = Keyring::open_or_create(&Host::system(), &dir).unwrap();
        assert_eq!(again.open("upstream", &sealed).unwrap().expose(), b"hunter2");
        assert_eq!(again.open("access-key", &sealed).unwrap_err(), OpenError::Refused);
        let unknown = Sealed { key_id: 9, bytes: sealed.bytes };
        assert_eq!(again.open("upstream", &unknown).unwrap_err(), OpenError::UnknownKey(9));
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_refused() {
        let (_folder, _, keyring) = keyring();
        let sealed = keyring.seal("upstream", b"hunter2");
        for n in 0..sealed.bytes.len() {
            let mut bytes = sealed.bytes.clone();
            bytes[n] ^= 1;
            assert!(keyring.open("upstream", &Sealed { key_id: 1, bytes }).is_err());
            let bytes = sealed.bytes[..n].to_vec();
            assert!(keyring.open("upstream", &Sealed { key_id: 1, bytes }).is_err());
        }
    }

    #[test]
    fn keys_that_others_can_read_are_refused_by_name() {
        let (_folder, dir, _) = keyring();
        for path in [dir.join("keys"), dir.clone()] {
            let before = std::fs::metadata(&path).unwrap().permissions();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
            let refused = Keyring::open_or_create(&Host::system(), &dir).err().unwrap();
            assert!(matches!(&refused, KeyringError::Exposed { path: named, .. } if *named == path), "{refused}");
            std::fs::set_permissions(&path, before).unwrap();
        }
    }

    #[test]
    fn a_cut_while_it_is_created_leaves_a_keyring_or_none() {
        for seed in 0..10 {
            for step in 1.. {
                let disk = MemoryDisk::default();
                disk.fail(Some(Fault::cut(step)));
                let dir = Path::new("/keyring");
                let host = |disk: MemoryDisk| Host { disk: Arc::new(disk), ..Host::system() };
                let first = Keyring::open_or_create(&host(disk.clone()), dir);
                let after = host(disk.crash(Some(seed)));
                let second = Keyring::open_or_create(&after, dir).unwrap();
                assert_eq!(after.disk.stat(&dir.join("keys")).unwrap().mode, 0o600);
                if let Ok(first) = first {
                    let sealed = first.seal("p", b"x");
                    assert_eq!(second.open("p", &sealed).unwrap().expose(), b"x", "a key that was used is kept");
                    break;
                }
            }
        }
    }
}
