//! How rows look in a store: the tables' numbers, the keys, the codec. All of it is format: it lies on disks and in
//! snapshots, and every node's state hash is taken over it. Numbers are never reused; a new table gets the next one.
//!
//! Invariant: a key of several parts is unambiguous, because a name and a tag hold no NUL and a digest's key tells its
//! own length by its first byte.

use std::fmt::Display;

use bytes::Bytes;
use flotilla_base::{
    ByteLen, NodeId, OpId, Timestamp,
    codec::{self, CodecError},
    store::{StoreError, Table},
};
use flotilla_oci::{Digest, Name, Tag};
use serde::{Serialize, de::DeserializeOwned};

/// Applied index, state hash and what consensus keeps: each node's own, therefore outside of the state hash.
pub const BOOKKEEPING: Table = Table(0);
/// `meta`, `counters`.
pub(crate) const META: Table = Table(1);
/// `settings`.
pub(crate) const SETTINGS: Table = Table(2);
/// prefix → `CacheRule`
pub(crate) const CACHE_RULES: Table = Table(3);
/// prefix → `Template`
pub(crate) const TEMPLATES: Table = Table(4);
/// name → `Repository`
pub(crate) const REPOSITORIES: Table = Table(5);
/// name, tag → `TagRecord`
pub(crate) const TAGS: Table = Table(6);
/// name, digest, tag → nothing
pub(crate) const TAGS_BY_DIGEST: Table = Table(7);
/// name, digest → `ImageRecord`
pub(crate) const IMAGES: Table = Table(8);
/// digest → `ManifestRecord`
pub(crate) const MANIFESTS: Table = Table(9);
/// digest → version byte, then the manifest verbatim
pub(crate) const MANIFEST_BYTES: Table = Table(10);
/// digest, index → `StagedPart`
pub(crate) const STAGED_PARTS: Table = Table(11);
/// digest → `BlobRecord`
pub(crate) const BLOBS: Table = Table(12);
/// name, digest → `LinkRecord`
pub(crate) const LINKS: Table = Table(13);
/// name, child's digest, list's digest → nothing
pub(crate) const CHILDREN: Table = Table(14);
/// name, subject's digest, digest → nothing
pub(crate) const REFERRERS: Table = Table(15);
/// id → `AccessKey`
pub(crate) const ACCESS_KEYS: Table = Table(16);
/// node → `NodeRecord`
pub(crate) const NODES: Table = Table(17);
/// node → `Process`
pub(crate) const PROCESSES: Table = Table(18);
/// node, boot, sequence number → `Reply`
pub(crate) const REPLIES: Table = Table(19);
/// BLAKE3 of principal and mark → `KeptOutcome`
pub(crate) const IDEMPOTENCY: Table = Table(20);
/// time, BLAKE3 of principal and mark → nothing
pub(crate) const IDEMPOTENCY_BY_TIME: Table = Table(21);
/// prefix → `CacheRuleOptions`
pub(crate) const RULE_OPTIONS: Table = Table(22);
/// name → `Secret`
pub(crate) const SECRETS: Table = Table(23);
/// name → `Robot`
pub(crate) const ROBOTS: Table = Table(24);
/// name → nothing
pub(crate) const PRIVATE_REPOSITORIES: Table = Table(25);

/// Every table of the state, in order: what a snapshot carries.
pub const TABLES: [Table; 26] = [
    BOOKKEEPING,
    META,
    SETTINGS,
    CACHE_RULES,
    TEMPLATES,
    REPOSITORIES,
    TAGS,
    TAGS_BY_DIGEST,
    IMAGES,
    MANIFESTS,
    MANIFEST_BYTES,
    STAGED_PARTS,
    BLOBS,
    LINKS,
    CHILDREN,
    REFERRERS,
    ACCESS_KEYS,
    NODES,
    PROCESSES,
    REPLIES,
    IDEMPOTENCY,
    IDEMPOTENCY_BY_TIME,
    RULE_OPTIONS,
    SECRETS,
    ROBOTS,
    PRIVATE_REPOSITORIES,
];

pub(crate) const KEY_APPLIED: &[u8] = b"applied";
pub(crate) const KEY_HASH: &[u8] = b"hash";
pub(crate) const KEY_CONSENSUS: &[u8] = b"consensus";
pub(crate) const KEY_META: &[u8] = b"meta";
pub(crate) const KEY_COUNTERS: &[u8] = b"counters";
pub(crate) const KEY_SETTINGS: &[u8] = b"settings";

/// The one format of rows that there is so far.
const ROW_VERSION: u8 = 1;

/// No row is longer: the longest holds a manifest of 4 MiB.
const ROW_LIMIT: ByteLen = ByteLen::mib(8);

pub(crate) fn encode_row<T: Serialize>(record: &T) -> Bytes {
    codec::encode(ROW_VERSION, record).expect("no Serialize of a record refuses").into()
}

pub(crate) fn decode_row<T: DeserializeOwned>(table: Table, bytes: &[u8]) -> Result<T, StoreError> {
    codec::decode_version(ROW_VERSION, ROW_LIMIT, bytes).map_err(|error| unreadable(table, error))
}

/// A row that says all by its key.
pub(crate) fn empty_row() -> Bytes {
    Bytes::from_static(&[ROW_VERSION])
}

pub(crate) fn encode_verbatim(bytes: &[u8]) -> Bytes {
    [&[ROW_VERSION], bytes].concat().into()
}

/// Shares the row's memory: a manifest is not copied on its way to a client.
pub(crate) fn decode_verbatim(table: Table, row: &Bytes) -> Result<Bytes, StoreError> {
    match row.first() {
        Some(&ROW_VERSION) => Ok(row.slice(1..)),
        Some(&found) => Err(unreadable(table, CodecError::Version { found, known: ROW_VERSION })),
        None => Err(corrupt(table, CodecError::Empty)),
    }
}

/// What it means that a row cannot be decoded. Only a higher version is a newer program's: none was ever below the first.
pub fn unreadable(table: Table, error: CodecError) -> StoreError {
    match error {
        CodecError::Version { found, known } if found > known => StoreError::UnknownVersion { table, found, known },
        error => corrupt(table, error),
    }
}

pub(crate) fn corrupt(table: Table, reason: impl Display) -> StoreError {
    StoreError::Corrupt { table, reason: reason.to_string() }
}

/// What all rows of a repository begin with in tables of several repositories.
pub(crate) fn in_repository(name: &Name) -> Vec<u8> {
    [name.as_str().as_bytes(), &[0]].concat()
}

pub(crate) fn tag_key(name: &Name, tag: &Tag) -> Vec<u8> {
    [name.as_str().as_bytes(), &[0], tag.as_str().as_bytes()].concat()
}

pub(crate) fn digest_key(name: &Name, digest: &Digest) -> Vec<u8> {
    [name.as_str().as_bytes(), &[0], &digest.key()].concat()
}

/// What all rows of one digest in a repository begin with.
pub(crate) fn under_digest(name: &Name, digest: &Digest) -> Vec<u8> {
    [name.as_str().as_bytes(), &[0], &digest.key(), &[0]].concat()
}

pub(crate) fn digest_tag_key(name: &Name, digest: &Digest, tag: &Tag) -> Vec<u8> {
    [name.as_str().as_bytes(), &[0], &digest.key(), &[0], tag.as_str().as_bytes()].concat()
}

pub(crate) fn digest_pair_key(name: &Name, first: &Digest, second: &Digest) -> Vec<u8> {
    [name.as_str().as_bytes(), &[0], &first.key(), &[0], &second.key()].concat()
}

pub(crate) fn part_key(digest: &Digest, index: u16) -> Vec<u8> {
    [digest.key().as_slice(), &index.to_be_bytes()].concat()
}

pub(crate) fn node_key(node: NodeId) -> Vec<u8> {
    node.0.to_be_bytes().to_vec()
}

pub(crate) fn reply_key(id: OpId) -> Vec<u8> {
    [id.node.0.to_be_bytes(), id.boot.0.to_be_bytes(), id.seq.to_be_bytes()].concat()
}

pub(crate) fn time_key(at: Timestamp, mark: &[u8; 32]) -> Vec<u8> {
    [at.0.to_be_bytes().as_slice(), mark].concat()
}

/// A tag out of a key.
pub(crate) fn read_tag(table: Table, key: &[u8]) -> Result<Tag, StoreError> {
    let text = str::from_utf8(key).map_err(|error| corrupt(table, error))?;
    text.parse().map_err(|error| corrupt(table, error))
}

/// A digest out of a key.
pub(crate) fn read_digest(table: Table, key: &[u8]) -> Result<Digest, StoreError> {
    Digest::from_key(key).map_err(|error| corrupt(table, error))
}
