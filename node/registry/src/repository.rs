//! Repositories and their settings.

use std::collections::BTreeMap;

use flotilla_base::Timestamp;
use flotilla_oci::{Name, Tag};
use serde::{Deserialize, Serialize};

use crate::Prefix;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    pub name: Name,
    pub created_at: Timestamp,
    /// Rises with each repository that is created: a recreated repository is another one, and what was read about the
    /// earlier one does not count (`protocols.md` §3.4).
    pub incarnation: u64,
    /// The rule that brought it here; `None` for one that a caller created.
    pub cached_by: Option<Prefix>,
    pub settings: RepositorySettings,
}

/// What a repository can be created with and a template can say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositorySettings {
    pub mutability: Mutability,
    pub scan_on_push: bool,
    pub encryption: Encryption,
    /// ECR's resource tags, not image tags.
    pub resource_tags: BTreeMap<String, String>,
    pub policy: Option<String>,
    pub lifecycle: Option<String>,
}

/// Which tags may move to another digest (`ecr-api.md` §5.3).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mutability {
    #[default]
    Mutable,
    Immutable,
    /// Frozen but for tags that match a filter.
    ImmutableExcept(Vec<TagFilter>),
    /// Movable but for tags that match a filter.
    MutableExcept(Vec<TagFilter>),
}

/// A glob over whole tags: `*` is zero or more characters, everything else is literal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagFilter(pub String);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    pub kind: EncryptionKind,
    pub kms_key: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EncryptionKind {
    #[default]
    Aes256,
    Kms,
    KmsDsse,
}

impl Mutability {
    /// Whether `tag` must stay on its digest once it has one.
    pub fn freezes(&self, tag: &Tag) -> bool {
        let matches = |filters: &[TagFilter]| filters.iter().any(|filter| filter.matches(tag.as_str()));
        match self {
            Self::Mutable => false,
            Self::Immutable => true,
            Self::ImmutableExcept(filters) => !matches(filters),
            Self::MutableExcept(filters) => matches(filters),
        }
    }
}

impl TagFilter {
    /// Linear in pattern and text: on a mismatch the last `*` takes one character more, and earlier ones never again.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (self.0.as_bytes(), text.as_bytes());
        let (mut p, mut t) = (0, 0);
        let mut last_star = None;
        while t < text.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    last_star = Some((p, t));
                    p += 1;
                }
                Some(&c) if c == text[t] => {
                    p += 1;
                    t += 1;
                }
                _ => match last_star {
                    Some((star, taken)) => {
                        last_star = Some((star, taken + 1));
                        p = star + 1;
                        t = taken + 1;
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, exponential and obvious.
    fn oracle(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| oracle(rest, &text[n..])),
            Some((c, rest)) => text.split_first().is_some_and(|(t, tail)| t == c && oracle(rest, tail)),
        }
    }

    proptest! {
        #[test]
        fn filters_match_as_their_definition_says(pattern in "[ab*]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(TagFilter(pattern.clone()).matches(&text), oracle(pattern.as_bytes(), text.as_bytes()));
        }
    }

    #[test]
    fn modes_freeze_what_they_say() {
        let filters = vec![TagFilter("latest*".into())];
        for (mode, latest, release) in [
            (Mutability::Mutable, false, false),
            (Mutability::Immutable, true, true),
            (Mutability::ImmutableExcept(filters.clone()), false, true),
            (Mutability::MutableExcept(filters), true, false),
        ] {
            assert_eq!(mode.freezes(&"latest-1".parse().unwrap()), latest, "{mode:?}");
            assert_eq!(mode.freezes(&"v1".parse().unwrap()), release, "{mode:?}");
        }
    }
}
