use flotilla_oci::{Digest, Name, Tag};
use serde::{Deserialize, Serialize};

use crate::Prefix;

/// Why the registry says no. The one list of it: `state` returns it from `apply` (so it crosses the log and the wire),
/// `service` from its checks, and each edge translates it in one table. Variants are only appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    #[error("repository '{0}' does not exist")]
    NoRepository(Name),
    #[error("repository '{0}' already exists")]
    RepositoryExists(Name),
    #[error("repository '{0}' still contains images")]
    RepositoryNotEmpty(Name),
    #[error("no template covers repository '{0}'")]
    NoTemplate(Name),
    #[error("no image in repository '{repository}' has digest {digest:?} and tag {tag:?}")]
    NoImage { repository: Name, digest: Option<Digest>, tag: Option<Tag> },
    #[error("tag '{1}' in repository '{0}' is immutable")]
    FrozenTag(Name, Tag),
    #[error("cache rule '{0}' already exists")]
    RuleExists(Prefix),
    #[error("cache rule '{0}' does not exist")]
    NoRule(Prefix),
    #[error("template '{0}' already exists")]
    TemplateExists(Prefix),
    #[error("template '{0}' does not exist")]
    TemplateMissing(Prefix),
    #[error("at most {limit} {what} are allowed")]
    Limit { what: String, limit: u64 },
    #[error("a resource may have at most {0} tags")]
    TooManyTags(u64),
    /// The tag, the rule or the repository is not the one that was read before upstream was asked.
    #[error("it changed while upstream was asked")]
    Moved,
    /// Staged parts of a manifest have expired or never came: stage them again.
    #[error("parts of manifest {0} are missing")]
    PartsMissing(Digest),
    #[error("manifest {0} is not what its digest says, or no manifest")]
    BadManifest(Digest),
    /// Being collected: its bytes must be put again before it can be linked.
    #[error("blob {0} is being collected")]
    Condemned(Digest),
    #[error("a cluster is already founded here")]
    AlreadyFounded,
    #[error("the step in time is too large")]
    TimeStep,
    #[error("setting '{0}' is not known or has no such value")]
    BadSetting(String),
    /// A newer process of the same node has proposed already; this one's operations are void.
    #[error("the operation is of an earlier start of its node, or was forgotten")]
    StaleOperation,
    #[error("secret '{0}' does not exist")]
    NoSecret(String),
    #[error("secret '{0}' already exists")]
    SecretExists(String),
    #[error("secret '{0}' is scheduled for deletion")]
    SecretDeleted(String),
    /// A secret's value goes to one upstream only.
    #[error("secret '{secret}' belongs to upstream '{host}'")]
    SecretPinned { secret: String, host: String },
    #[error("robot '{0}' does not exist")]
    NoRobot(String),
    #[error("robot '{0}' already exists")]
    RobotExists(String),
    #[error("access key '{0}' does not exist")]
    NoAccessKey(String),
    #[error("access key '{0}' is the last one of root")]
    LastRootKey(String),
}
