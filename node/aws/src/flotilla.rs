//! The cluster's own operations, in the protocol of the others.

mod explain;
mod keys;
mod rules;

pub use explain::*;
pub use keys::*;
pub use rules::*;
use serde::{Deserialize, Serialize};

use crate::{
    operation::operation,
    validate::{self, Checked},
};

operation!(
    /// What the answering node sees of itself and the cluster.
    Flotilla::GetStatus(GetStatusInput) -> GetStatusOutput
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GetStatusInput {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GetStatusOutput {
    pub version: String,
    pub node_id: String,
    pub node_name: String,
    pub cluster_id: String,
    pub region: String,
    /// As clients reach this node.
    pub endpoint: String,
    pub uptime_seconds: u64,
    pub ready: bool,
    pub raft: RaftStatus,
    pub storage: StorageStatus,
    pub counts: Counts,
    /// Those that were contacted since the start.
    pub upstreams: Vec<UpstreamStatus>,
    pub fills_in_flight: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RaftStatus {
    /// Node id; absent while there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    pub term: u64,
    /// Log index.
    pub last_applied: u64,
    /// `Leader`, `Follower`, `Candidate` or `Learner`.
    pub state: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StorageStatus {
    pub used_bytes: u64,
    /// What blobs may take.
    pub max_bytes: u64,
    /// Of the file system.
    pub free_bytes: u64,
    pub blobs: u64,
    /// Blobs with a bad piece, kept apart.
    pub quarantined: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Counts {
    pub rules: u64,
    pub templates: u64,
    pub repositories: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpstreamStatus {
    pub host: String,
    /// True while requests to it are held back after failures.
    pub circuit_open: bool,
    /// Why its credential is of no use: the secret is not there or unreadable, or the upstream refuses it. What is held
    /// goes on serving.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential_failure: Option<String>,
    /// What the upstream last said is left, in pulls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limit_remaining: Option<u64>,
}

operation!(
    /// Asks the upstream now, whatever the age of what is held.
    Flotilla::RefreshImage(RefreshImageInput) -> RefreshImageOutput, check = check_refresh
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RefreshImageInput {
    pub repository_name: String,
    /// All held tags when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_tag: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RefreshImageOutput {
    pub refreshed: Vec<RefreshedImage>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RefreshedImage {
    pub image_tag: String,
    /// What the tag names now.
    pub image_digest: String,
    /// Only when the tag moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_digest: Option<String>,
    pub outcome: RefreshOutcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What asking the upstream for one tag came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefreshOutcome {
    #[default]
    Unchanged,
    Moved,
    /// The tag is immutable here; the upstream's differs.
    Frozen,
    MissingUpstream,
    UpstreamFailed,
}

operation!(
    /// Explains where a name leads: which rule and template a pull of it would use.
    Flotilla::CheckImageReference(CheckImageReferenceInput) -> CheckImageReferenceOutput, check = check_reference
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckImageReferenceInput {
    /// Repository name as a client pulls it; host, tag and digest are taken off.
    pub name: String,
    /// The registry that a client of a mirror names beside it, as containerd's `?ns=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckImageReferenceOutput {
    pub repository_name: String,
    /// Of the rule that covers the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecr_repository_prefix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_name: Option<String>,
    /// The rule's filters keep the name from the upstream.
    pub filtered: bool,
    /// Of the template a new repository would be made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_prefix: Option<String>,
    pub repository_exists: bool,
    /// Hints for people.
    pub notes: Vec<String>,
}

fn check_refresh(input: &RefreshImageInput) -> Checked {
    validate::repository_name("repositoryName", &input.repository_name)?;
    match &input.image_tag {
        Some(tag) => validate::length("imageTag", tag, 1, 300),
        None => Ok(()),
    }
}

fn check_reference(input: &CheckImageReferenceInput) -> Checked {
    validate::required("name", &input.name)?;
    // Room for a host, a name of 256 characters, a tag and a digest.
    validate::length("name", &input.name, 1, 1024)?;
    match &input.ns {
        Some(ns) => validate::length("ns", ns, 1, 261),
        None => Ok(()),
    }
}
