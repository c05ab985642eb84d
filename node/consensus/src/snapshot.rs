//! The state as one file: frames of length and record, closed by their BLAKE3. A head says what it holds, then come the
//! rows of all tables, then their number.
//!
//! Invariant: a file named `*.snapshot` is whole and durable; it is written beside and renamed.

mod folder;
mod frames;

pub(crate) use folder::Folder;
pub(crate) use frames::load;
