//! Upstream credentials as Secrets Manager shows them. Values are sealed; only the node's keyring opens them.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_base::{Secret as Bytes, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Sealed;

/// The stage of the version that is in use.
pub const CURRENT: &str = "AWSCURRENT";

/// The stage of the version before it.
pub const PREVIOUS: &str = "AWSPREVIOUS";

/// What values are sealed under.
pub const PURPOSE: &str = "secret";

/// Most versions of one secret, as with AWS; those without a stage make room, the oldest first.
pub const MAX_VERSIONS: usize = 100;

/// Most bytes of one version's value.
pub const MAX_VALUE_BYTES: usize = 16 << 10;

/// Most bytes of a secret with all its versions: it crosses the log as one entry.
pub const MAX_BYTES: usize = 56 << 10;

/// Most resource tags of a secret.
pub const MAX_TAGS: usize = 50;

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

/// What a client stored, and in which of the two forms.
#[derive(Clone, Debug)]
pub enum SecretValue {
    Text(Bytes),
    Binary(Bytes),
}

impl SecretValue {
    /// What is sealed: the form, then the value.
    pub fn to_plaintext(&self) -> Bytes {
        let (form, bytes) = match self {
            Self::Text(bytes) => (b't', bytes),
            Self::Binary(bytes) => (b'b', bytes),
        };
        Bytes::new([&[form], bytes.expose()].concat())
    }

    /// `None` for what [`SecretValue::to_plaintext`] did not make.
    pub fn from_plaintext(plaintext: &Bytes) -> Option<Self> {
        let (form, bytes) = plaintext.expose().split_first()?;
        match form {
            b't' => Some(Self::Text(Bytes::new(bytes))),
            b'b' => Some(Self::Binary(Bytes::new(bytes))),
            _ => None,
        }
    }

    pub fn bytes(&self) -> &Bytes {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes,
        }
    }
}

impl Secret {
    /// Adds a version, which takes its stages from the versions that have them. The first version is in use whatever its
    /// stages. `false`: the secret would be larger than [`MAX_BYTES`].
    #[must_use]
    pub fn add(&mut self, version: SecretVersion) -> bool {
        let mut stages = version.stages.clone();
        if self.current().is_none() {
            stages.insert(CURRENT.to_owned());
        }
        let id = version.id.clone();
        self.versions.push(SecretVersion { stages: BTreeSet::new(), ..version });
        for stage in &stages {
            self.give(stage, &id);
        }
        self.make_room()
    }

    /// Moves a stage to the version `id`, which exists. What [`CURRENT`] leaves becomes [`PREVIOUS`].
    pub fn give(&mut self, stage: &str, id: &str) {
        if stage == CURRENT
            && let Some(left) = self.current().map(|version| version.id.clone()).filter(|left| left != id)
        {
            self.give(PREVIOUS, &left);
        }
        for version in &mut self.versions {
            if version.id == id {
                version.stages.insert(stage.to_owned());
            } else {
                version.stages.remove(stage);
            }
        }
    }

    fn make_room(&mut self) -> bool {
        while self.versions.len() > MAX_VERSIONS || self.len_bytes() > MAX_BYTES {
            // Never the newest, though a client may give it no stage that lasts.
            let older = self.versions.len().saturating_sub(1);
            let Some(at) = self.versions.iter().take(older).position(|version| version.stages.is_empty()) else {
                return false;
            };
            self.versions.remove(at);
        }
        true
    }

    /// About what it takes as a row, rather too much.
    pub fn len_bytes(&self) -> usize {
        const EACH: usize = 16;
        let text = |text: &str| text.len() + EACH;
        let optional = |value: &Option<String>| value.as_deref().map_or(EACH, text);
        let versions = self.versions.iter().map(|version| {
            let stages: usize = version.stages.iter().map(|stage| text(stage)).sum();
            text(&version.id) + stages + version.value.bytes.len() + 3 * EACH
        });
        let tags = self.tags.iter().map(|(key, value)| text(key) + text(value));
        let own = text(&self.name) + optional(&self.description) + optional(&self.kms_key_id);
        own + optional(&self.pinned_host) + versions.sum::<usize>() + tags.sum::<usize>() + 8 * EACH
    }

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

    fn secret() -> Secret {
        Secret {
            name: "ecr-pullthroughcache/hub".into(),
            suffix: "AbCd12".into(),
            description: None,
            kms_key_id: None,
            tags: BTreeMap::new(),
            versions: Vec::new(),
            created_at: Timestamp(0),
            changed_at: Timestamp(0),
            deletion: None,
            pinned_host: None,
            revision: 0,
        }
    }

    fn version(id: &str, stages: &[&str], len: usize) -> SecretVersion {
        let value = Sealed { key_id: 1, bytes: vec![0; len] };
        let stages = stages.iter().map(|stage| (*stage).to_owned()).collect();
        SecretVersion { id: id.into(), stages, value, created_at: Timestamp(0) }
    }

    fn at(secret: &Secret, stage: &str) -> String {
        secret.version(stage).map(|version| version.id.clone()).unwrap_or_default()
    }

    #[test]
    fn a_stage_is_at_one_version_and_the_one_before_is_remembered() {
        let mut secret = secret();
        assert!(secret.add(version("1", &["mine"], 1)));
        assert_eq!(
            (at(&secret, CURRENT), at(&secret, "mine"), at(&secret, PREVIOUS)),
            ("1".into(), "1".into(), "".into())
        );
        assert!(secret.add(version("2", &[CURRENT, "mine"], 1)));
        assert_eq!(
            (at(&secret, CURRENT), at(&secret, "mine"), at(&secret, PREVIOUS)),
            ("2".into(), "2".into(), "1".into())
        );
        assert!(secret.add(version("3", &["AWSPENDING"], 1)));
        assert_eq!((at(&secret, CURRENT), at(&secret, PREVIOUS)), ("2".into(), "1".into()));
        secret.give(CURRENT, "1");
        assert_eq!((at(&secret, CURRENT), at(&secret, PREVIOUS)), ("1".into(), "2".into()));
        secret.give(CURRENT, "1");
        assert_eq!(at(&secret, PREVIOUS), "2", "nothing moved");
    }

    #[test]
    fn versions_without_a_stage_make_room_and_others_do_not() {
        let mut secret = secret();
        for number in 0..150 {
            assert!(secret.add(version(&number.to_string(), &[CURRENT], 100)));
        }
        assert_eq!(
            (secret.versions.len(), at(&secret, CURRENT), at(&secret, PREVIOUS)),
            (100, "149".into(), "148".into())
        );
        assert!(secret.add(version("large", &[CURRENT], MAX_VALUE_BYTES)));
        assert!(secret.add(version("larger", &[CURRENT], MAX_VALUE_BYTES)));
        assert!(secret.len_bytes() <= MAX_BYTES && at(&secret, PREVIOUS) == "large");
        assert!(secret.add(version("a", &["a"], MAX_VALUE_BYTES)));
        assert!(!secret.add(version("b", &["b"], MAX_VALUE_BYTES)), "four that are staged");
    }

    #[test]
    fn values_keep_their_form() {
        for value in [SecretValue::Text(Bytes::from("x".to_owned())), SecretValue::Binary(Bytes::new([]))] {
            let back = SecretValue::from_plaintext(&value.to_plaintext()).unwrap();
            assert_eq!(std::mem::discriminant(&back), std::mem::discriminant(&value));
            assert_eq!(back.bytes().expose(), value.bytes().expose());
        }
        assert!(SecretValue::from_plaintext(&Bytes::new([])).is_none());
        assert!(SecretValue::from_plaintext(&Bytes::new(*b"x1")).is_none());
    }

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
