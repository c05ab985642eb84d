//! AWS's own models, as extracts of botocore's, and the names that our shapes know.

use std::{cell::Cell, collections::BTreeMap, fmt};

use serde::{Deserialize, de};

#[derive(Deserialize)]
pub(crate) struct Model {
    pub(crate) operations: BTreeMap<String, OperationModel>,
    pub(crate) shapes: BTreeMap<String, ShapeModel>,
}

#[derive(Deserialize)]
pub(crate) struct OperationModel {
    pub(crate) input: String,
    /// Empty where there is none.
    pub(crate) output: String,
}

#[derive(Deserialize)]
pub(crate) struct ShapeModel {
    pub(crate) members: Vec<String>,
    pub(crate) required: Vec<String>,
}

/// Catches the member names that a derived `Deserialize` asks for.
struct MemberNames<'a>(&'a Cell<&'static [&'static str]>);

#[derive(Debug)]
struct Caught;

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("caught")
    }
}

impl std::error::Error for Caught {}

impl de::Error for Caught {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

impl<'de> de::Deserializer<'de> for MemberNames<'_> {
    type Error = Caught;

    fn deserialize_any<V: de::Visitor<'de>>(self, _: V) -> Result<V::Value, Caught> {
        Err(Caught)
    }

    fn deserialize_struct<V: de::Visitor<'de>>(
        self,
        _: &'static str,
        members: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Caught> {
        self.0.set(members);
        Err(Caught)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Of a shape of ours, sorted.
pub(crate) fn members<T: de::DeserializeOwned>() -> Vec<&'static str> {
    let caught = Cell::new(&[][..]);
    assert!(T::deserialize(MemberNames(&caught)).is_err());
    let mut names = caught.get().to_vec();
    names.sort_unstable();
    names
}
