//! How a row lies in the tree. The head of a row is at `0, table, key`, so that heads have the order of the contract;
//! the value follows its tag there when it is short. A long value lies in pieces at `1, table, length of key, key,
//! number`, which no other key's pieces can be mixed up with, and its head says how many there are.

use bytes::{BufMut, Bytes, BytesMut};
use flotilla_base::store::{Page, Row, StoreError, Table};
use sled::{Batch, Db, IVec};

use super::sled_error;

/// sled reclaims the space of small items only.
pub(super) const PIECE_BYTES: usize = 16 << 10;

const HEAD: u8 = 0;
const PIECE: u8 = 1;
const INLINE: u8 = 0;
const SPLIT: u8 = 1;

pub(super) fn head_key(table: Table, key: &[u8]) -> Vec<u8> {
    [&[HEAD, table.0], key].concat()
}

fn piece_key(table: Table, key: &[u8], number: u32) -> Vec<u8> {
    let len = u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[PIECE, table.0], len.as_slice(), key, &number.to_be_bytes()].concat()
}

/// What a head says of its value.
enum Head<'a> {
    Inline(&'a [u8]),
    Split { pieces: u32, len: u32 },
}

fn parse(table: Table, head: &[u8]) -> Result<Head<'_>, StoreError> {
    let corrupt = || StoreError::Corrupt { table, reason: "malformed head of a row".to_owned() };
    match head.split_first() {
        Some((&INLINE, value)) => Ok(Head::Inline(value)),
        Some((&SPLIT, rest)) => {
            let len = u32::from_be_bytes(rest.try_into().map_err(|_| corrupt())?);
            Ok(Head::Split { pieces: len.div_ceil(PIECE_BYTES as u32), len })
        }
        _ => Err(corrupt()),
    }
}

pub(super) fn value(db: &Db, table: Table, key: &[u8], head: &[u8]) -> Result<Bytes, StoreError> {
    let (pieces, len) = match parse(table, head)? {
        Head::Inline(value) => return Ok(Bytes::copy_from_slice(value)),
        Head::Split { pieces, len } => (pieces, len as usize),
    };
    let mut whole = BytesMut::new();
    for number in 0..pieces {
        let piece = db.get(piece_key(table, key, number)).map_err(sled_error("read the store"))?;
        let piece = piece.filter(|piece| piece.len() <= PIECE_BYTES);
        whole.put_slice(&piece.ok_or_else(|| StoreError::Corrupt {
            table,
            reason: format!("piece {number} of {pieces} is missing or too long"),
        })?);
    }
    if whole.len() != len {
        return Err(StoreError::Corrupt { table, reason: format!("{} bytes in pieces, {len} expected", whole.len()) });
    }
    Ok(whole.freeze())
}

pub(super) fn get(db: &Db, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
    let head = db.get(head_key(table, key)).map_err(sled_error("read the store"))?;
    head.map(|head| value(db, table, key, &head)).transpose()
}

/// Rows of `table` from `from` on, lazily: the caller holds the lock while it walks.
pub(super) fn walk<'a>(
    db: &'a Db,
    table: Table,
    from: &[u8],
) -> impl Iterator<Item = Result<(Bytes, IVec), StoreError>> + use<'a> {
    let heads = db.range(head_key(table, from)..).map(|row| row.map_err(sled_error("scan the store")));
    heads.map_while(move |row| match row {
        Ok((key, head)) => key.strip_prefix(&[HEAD, table.0]).map(|key| Ok((Bytes::copy_from_slice(key), head))),
        Err(error) => Some(Err(error)),
    })
}

pub(super) fn page(db: &Db, table: Table, from: &[u8], limit: usize) -> Result<Vec<Row>, StoreError> {
    let mut page = Page::new(limit);
    let mut rows = walk(db, table, from);
    while !page.is_full() {
        let Some(row) = rows.next() else { break };
        let (key, head) = row?;
        let value = value(db, table, &key, &head)?;
        page.push(key, value);
    }
    Ok(page.into_rows())
}

/// Adds to `batch` what makes `key` hold `new`: no piece of an older value is left behind.
pub(super) fn change(
    db: &Db,
    batch: &mut Batch,
    table: Table,
    key: &[u8],
    new: Option<&Bytes>,
) -> Result<(), StoreError> {
    let head = head_key(table, key);
    let old = db.get(&head).map_err(sled_error("read the store"))?;
    let old_pieces = match old.as_deref().map(|head| parse(table, head)).transpose()? {
        Some(Head::Split { pieces, .. }) => pieces,
        Some(Head::Inline(_)) | None => 0,
    };
    let mut new_pieces = 0;
    match new {
        None if old.is_some() => batch.remove(head),
        None => {}
        Some(value) if value.len() <= PIECE_BYTES => batch.insert(head, [&[INLINE], &**value].concat()),
        Some(value) => {
            let len = u32::try_from(value.len()).map_err(|error| StoreError::Io {
                operation: "write a value of 4 GiB or more",
                source: std::io::Error::other(error),
            })?;
            batch.insert(head, [&[SPLIT], len.to_be_bytes().as_slice()].concat());
            for piece in value.chunks(PIECE_BYTES) {
                batch.insert(piece_key(table, key, new_pieces), piece);
                new_pieces += 1;
            }
        }
    }
    for number in new_pieces..old_pieces {
        batch.remove(piece_key(table, key, number));
    }
    Ok(())
}
