//! Upstream credentials as Secrets Manager shows them. Values are sealed; only the node's keyring opens them.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_base::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Sealed;

/// The stage of the version that is in use.
pub const CURRENT: &str = "AWSCURRENT";

/// The stage of the version before it.
pub const PREVIOUS: &str = "AWSPREVIOUS";

/// Letters that AWS puts behind a secret's name in its ARN, so that a secret that is made again is another one.
pub const SUFFIX_LEN: usize = 6;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    pub name: String,
    /// [`SUFFIX_LEN`] letters and digits, new with each secret.
    pub suffix: String,
    pub description: Option<String>,
    pub kms_key_id: Option<String>,
    pub tags: BTreeMap<String, String>,
    /// Oldest first. Empty while the secret was made without a value.
    pub versions: Vec<SecretVersion>,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    /// While it is scheduled for deletion: since when, and when it goes for good.
    pub deletion: Option<Deletion>,
    /// The upstream of the first rule that named it; the value goes to this host and its token service only.
    pub pinned_host: Option<String>,
    /// Rises with each change: a change is made from the revision that was read.
    pub revision: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretVersion {
    pub id: String,
    /// At most one version of a secret has a stage; one without any is deprecated and goes first.
    pub stages: BTreeSet<String>,
    /// Sealed under the purpose `secret`.
    pub value: Sealed,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deletion {
    pub requested_at: Timestamp,
    pub purge_at: Timestamp,
}

/// What an ARN or a name may mean, the likelier first: a name may itself end like a suffix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretId {
    pub name: String,
    /// `None`: named without it, and any secret of this name is meant.
    pub suffix: Option<String>,
}

impl Secret {
    pub fn version(&self, stage: &str) -> Option<&SecretVersion> {
        self.versions.iter().find(|version| version.stages.contains(stage))
    }

    pub fn current(&self) -> Option<&SecretVersion> {
        self.version(CURRENT)
    }

    pub fn is_deleted(&self) -> bool {
        self.deletion.is_some()
    }

    /// `arn:aws:secretsmanager:<region>:<account>:secret:<name>-<suffix>`.
    pub fn arn(&self, region: &str, account_id: &str) -> String {
        format!("arn:aws:secretsmanager:{region}:{account_id}:secret:{}-{}", self.name, self.suffix)
    }
}

impl SecretId {
    /// Every reading of `id`, a name or an ARN; the ARN's partition, region and account are labels.
    pub fn readings(id: &str) -> Vec<Self> {
        let text = match id.strip_prefix("arn:") {
            Some(arn) => match arn.splitn(6, ':').collect::<Vec<_>>()[..] {
                [_, "secretsmanager", _, _, "secret", name] => name,
                _ => return Vec::new(),
            },
            None => return vec![Self { name: id.to_owned(), suffix: None }],
        };
        let mut readings = Vec::with_capacity(2);
        if let Some((name, suffix)) = text.rsplit_once('-')
            && suffix.len() == SUFFIX_LEN
            && suffix.bytes().all(|c| c.is_ascii_alphanumeric())
        {
            readings.push(Self { name: name.to_owned(), suffix: Some(suffix.to_owned()) });
        }
        readings.push(Self { name: text.to_owned(), suffix: None });
        readings
    }

    pub fn is(&self, secret: &Secret) -> bool {
        self.name == secret.name && self.suffix.as_ref().is_none_or(|suffix| *suffix == secret.suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arns_are_read() {
        let read = |id: &str| SecretId::readings(id).into_iter().map(|r| (r.name, r.suffix)).collect::<Vec<_>>();
        let name = "ecr-pullthroughcache/hub";
        assert_eq!(read(name), [(name.to_owned(), None)]);
        let arn = |tail: &str| format!("arn:aws:secretsmanager:eu-west-1:000000000000:secret:{name}{tail}");
        let (bare, with_suffix, other) = (arn(""), arn("-AbCd12"), arn("-AbCd-1"));
        assert_eq!(read(&bare), [(name.to_owned(), None)]);
        let full = [(name.to_owned(), Some("AbCd12".to_owned())), (format!("{name}-AbCd12"), None)];
        assert_eq!(read(&with_suffix), full);
        assert_eq!(read(&other), [(format!("{name}-AbCd-1"), None)]);
        assert_eq!(read("arn:aws:s3:::bucket"), []);
    }
}
