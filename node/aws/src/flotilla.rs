//! The cluster's own operations, in the protocol of the others.

mod explain;
mod keys;

pub use explain::*;
pub use keys::*;
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

operation!(
    /// Sets what AWS has no member for on a pull through cache rule. Members that are absent stay as they are.
    Flotilla::PutCacheRuleOptions(PutCacheRuleOptionsInput) -> PutCacheRuleOptionsOutput, check = check_options
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PutCacheRuleOptionsInput {
    pub ecr_repository_prefix: String,
    /// Age at which a tag is validated against the upstream again, in seconds; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revalidate_after_seconds: Option<u64>,
    /// Stands in for its upstream host: `?ns=`, and the mirror's listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<bool>,
    /// Anonymous callers may use it although it has a credential.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anonymous_allowed: Option<bool>,
    /// Globs over whole names at the upstream; `*` is any text. An empty list admits all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// The same for names that are never fetched; it wins over `allow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deny: Option<Vec<String>>,
}

/// A rule's options, with what a mirror's client has to know of the rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CacheRuleOptions {
    pub ecr_repository_prefix: String,
    /// The canonical host: `registry-1.docker.io` for Docker Hub.
    pub upstream_host: String,
    /// What stands before every name at the upstream, wherever it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_prefix: Option<String>,
    pub mirror: bool,
    pub anonymous_allowed: bool,
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    /// Absent: the node's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revalidate_after_seconds: Option<u64>,
}

/// As they are now.
pub type PutCacheRuleOptionsOutput = CacheRuleOptions;

operation!(
    /// Shows what AWS has no member for on pull through cache rules.
    Flotilla::DescribeCacheRuleOptions(DescribeCacheRuleOptionsInput) -> DescribeCacheRuleOptionsOutput,
    check = check_describe_options
);

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeCacheRuleOptionsInput {
    /// All rules when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ecr_repository_prefixes: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_results: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribeCacheRuleOptionsOutput {
    pub cache_rule_options: Vec<CacheRuleOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Of each list; every pull of the rule may look at all of them.
const MAX_GLOBS: usize = 100;
/// A repository's name is not longer.
const MAX_GLOB_LEN: usize = 256;

fn check_options(input: &PutCacheRuleOptionsInput) -> Checked {
    validate::required("ecrRepositoryPrefix", &input.ecr_repository_prefix)?;
    let nothing = input.mirror.is_none()
        && input.anonymous_allowed.is_none()
        && input.allow.is_none()
        && input.deny.is_none()
        && input.revalidate_after_seconds.is_none();
    if nothing {
        return Err(validate::InvalidParameter::new("ecrRepositoryPrefix", "must come with an option to set"));
    }
    match input.revalidate_after_seconds {
        // A year and more is as good as never, and never is what digests are for.
        None | Some(1..=31_536_000) => {}
        _ => return Err(validate::InvalidParameter::new("revalidateAfterSeconds", "must be between 1 and 31536000")),
    }
    globs("allow", input.allow.as_deref())?;
    globs("deny", input.deny.as_deref())
}

fn globs(member: &str, globs: Option<&[String]>) -> Checked {
    let globs = globs.unwrap_or_default();
    validate::count(member, globs, 0, MAX_GLOBS)?;
    for (index, glob) in globs.iter().enumerate() {
        let member = format!("{member}.{}.member", index + 1);
        validate::length(&member, glob, 1, MAX_GLOB_LEN)?;
        // What no name has: such a glob is a mistake, and one in `deny` a dangerous one.
        if !glob.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"._-/*".contains(&c)) {
            return Err(validate::InvalidParameter::new(
                member,
                "must consist of characters of a repository name and *",
            ));
        }
    }
    Ok(())
}

fn check_describe_options(input: &DescribeCacheRuleOptionsInput) -> Checked {
    if let Some(prefixes) = &input.ecr_repository_prefixes {
        validate::count("ecrRepositoryPrefixes", prefixes, 1, 100)?;
    }
    validate::max_results(input.max_results, 1000)
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
