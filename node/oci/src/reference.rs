use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Longest repository name: 255 characters in the distribution spec's practice, 256 in ECR (`ecr-api.md` §3).
const NAME_MAX: usize = 256;
const TAG_MAX: usize = 128;

/// A repository's name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` parts between slashes (distribution spec 1.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Arc<str>);

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (distribution spec 1.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(Arc<str>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Reference {
    Tag(Tag),
    Digest(Digest),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {0}")]
pub struct InvalidReference(pub &'static str);

/// One part of a name between slashes.
fn is_component(part: &str) -> bool {
    let alphanumeric = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|c| c == b'-'))
}

impl FromStr for Name {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let fits = text.len() <= NAME_MAX && text.split('/').all(is_component);
        if fits { Ok(Self(text.into())) } else { Err(InvalidReference("repository name")) }
    }
}

impl FromStr for Tag {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let fits = text.len() <= TAG_MAX
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|c| word(c) || c == b'.' || c == b'-');
        if fits { Ok(Self(text.into())) } else { Err(InvalidReference("tag")) }
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    /// A digest has a colon, a tag cannot have one.
    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.contains(':') {
            text.parse().map(Self::Digest).map_err(|_| InvalidReference("digest"))
        } else {
            text.parse().map(Self::Tag)
        }
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.as_str().to_owned()
    }
}

impl TryFrom<String> for Tag {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.as_str().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl Name {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "library/nginx", "a__b", "a--b", "a.b/c_d", "0", "a/b/c/d", "my-docker-hub/library/nginx"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        let long = "a".repeat(257);
        for bad in [
            "", "/", "a/", "/a", "a//b", "A", "a..b", "a___b", "-a", "a-", "a._b", "..", "../a", "a/../b", "a b", "é",
            &long,
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tags_follow_the_grammar() {
        for good in ["latest", "_x", "1.0-rc.1", "V1"] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        let long = "a".repeat(129);
        for bad in ["", ".x", "-x", "a:b", "a/b", "a b", "é", &long] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_reference_with_a_colon_is_a_digest_or_nothing() {
        assert!(matches!("latest".parse(), Ok(Reference::Tag(_))));
        assert!(matches!(format!("sha256:{}", "0".repeat(64)).parse(), Ok(Reference::Digest(_))));
        assert_eq!("sha256:0".parse::<Reference>(), Err(InvalidReference("digest")));
    }
}
