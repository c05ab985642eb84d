use std::collections::BTreeMap;

use flotilla_base::store::Table;
use serde::{Deserialize, Serialize};

/// Per table, the sum modulo 2^256 of BLAKE3(key ‖ value): changed with each write, never computed over the whole
/// (`protocols.md` §4.3). An empty table has no entry, so that equal states have equal hashes however they came to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateHash(pub BTreeMap<u8, [u8; 32]>);

impl StateHash {
    /// Accounts for a row that changes from `old` to `new`; `None` is no row.
    pub(crate) fn replace(&mut self, table: Table, key: &[u8], old: Option<&[u8]>, new: Option<&[u8]>) {
        let mut sum = self.0.remove(&table.0).unwrap_or_default();
        if let Some(value) = old {
            sum = add(sum, negate(row_hash(key, value)));
        }
        if let Some(value) = new {
            sum = add(sum, row_hash(key, value));
        }
        if sum != [0; 32] {
            self.0.insert(table.0, sum);
        }
    }
}

/// The key's length goes before it: otherwise a byte could wander from the key to the value unseen.
fn row_hash(key: &[u8], value: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().into()
}

/// Little-endian, modulo 2^256.
fn add(mut a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    let mut carry = false;
    for (x, y) in a.iter_mut().zip(b) {
        let (sum, first) = x.overflowing_add(y);
        let (sum, second) = sum.overflowing_add(u8::from(carry));
        *x = sum;
        carry = first || second;
    }
    a
}

fn negate(a: [u8; 32]) -> [u8; 32] {
    let mut one = [0; 32];
    one[0] = 1;
    add(a.map(|byte| !byte), one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sums_form_a_group(a: [u8; 32], b: [u8; 32]) {
            prop_assert_eq!(add(a, negate(a)), [0; 32]);
            prop_assert_eq!(add(a, b), add(b, a));
            prop_assert_eq!(add(add(a, b), negate(b)), a);
        }
    }

    #[test]
    fn carries_run_through() {
        let mut one = [0; 32];
        one[0] = 1;
        assert_eq!(add([0xff; 32], one), [0; 32]);
        let mut two_fifty_six = [0; 32];
        two_fifty_six[1] = 1;
        let mut ff = [0; 32];
        ff[0] = 0xff;
        assert_eq!(add(ff, one), two_fifty_six);
    }

    #[test]
    fn order_does_not_matter_and_removal_undoes() {
        let (table, mut hash, mut other) = (Table(7), StateHash::default(), StateHash::default());
        hash.replace(table, b"a", None, Some(b"1"));
        hash.replace(table, b"b", None, Some(b"2"));
        other.replace(table, b"b", None, Some(b"x"));
        other.replace(table, b"a", None, Some(b"1"));
        assert_ne!(hash, other);
        other.replace(table, b"b", Some(b"x"), Some(b"2"));
        assert_eq!(hash, other);
        hash.replace(table, b"a", Some(b"1"), None);
        hash.replace(table, b"b", Some(b"2"), None);
        assert_eq!(hash, StateHash::default());
    }

    #[test]
    fn a_byte_does_not_wander_from_key_to_value() {
        let (mut hash, mut other) = (StateHash::default(), StateHash::default());
        hash.replace(Table(7), b"ab", None, Some(b"c"));
        other.replace(Table(7), b"a", None, Some(b"bc"));
        assert_ne!(hash, other);
    }
}
