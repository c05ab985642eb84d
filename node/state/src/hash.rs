use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Per table, the sum modulo 2^256 of BLAKE3(key ‖ value): changed with each write, never computed over the whole
/// (`protocols.md` §4.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHash(pub BTreeMap<u8, [u8; 32]>);
