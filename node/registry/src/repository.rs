//! Repositories and their settings.

use std::collections::BTreeMap;

use flotilla_base::Timestamp;
use flotilla_oci::{Name, Tag};
use serde::{Deserialize, Serialize};

use crate::{Glob, Prefix};

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
    ImmutableExcept(Vec<Glob>),
    /// Movable but for tags that match a filter.
    MutableExcept(Vec<Glob>),
}

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
        let matches = |filters: &[Glob]| filters.iter().any(|filter| filter.matches(tag.as_str()));
        match self {
            Self::Mutable => false,
            Self::Immutable => true,
            Self::ImmutableExcept(filters) => !matches(filters),
            Self::MutableExcept(filters) => matches(filters),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_freeze_what_they_say() {
        let filters = vec![Glob("latest*".into())];
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
