//! What can be changed. Everything here crosses the log and outlives programs: variants and fields are only appended,
//! and a new one raises [`crate::CLUSTER_VERSION`] (`protocols.md` §2.2).

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use flotilla_base::{
    ByteLen, ClusterId, NodeId, OpId, Timestamp,
    codec::{self, CodecError},
};
use flotilla_oci::{Digest, MediaType, Name, Tag};
use flotilla_registry::{
    NodeRecord, Prefix, Refusal, Repository,
    access::{AccessKey, PrincipalArn, Robot},
    cache_rule::{CacheRule, CacheRuleOptions, Origin},
    image::ImageId,
    repository::{Mutability, RepositorySettings},
    secret::Secret,
    template::{Scenario, Template},
};
use serde::{Deserialize, Serialize};

/// Largest encoded log entry: a larger append would queue heartbeats behind it and depose the leader on a slow link
/// (`protocols.md` §0, §2.1).
pub const COMMAND_LIMIT: ByteLen = ByteLen::kib(64);

/// Largest part of a staged manifest: with its head it fits into one entry.
pub const PART_LIMIT: ByteLen = ByteLen::kib(48);

/// The one format of entries that there is so far.
pub(crate) const COMMAND_VERSION: u8 = 1;

/// One log entry: operations that the leader took together and stamped with one time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandBatch {
    /// The leader's clock, never below the state's time (`protocols.md` §2.3).
    pub at: Timestamp,
    /// They succeed or fail one by one.
    pub commands: Vec<Command>,
}

/// One change, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Makes a retry harmless: an operation that was applied is answered from its kept result.
    pub id: OpId,
    /// Every operation of this node and boot below it has been answered; their results may go.
    pub acked_below: u64,
    pub by: PrincipalArn,
    pub idempotency: Option<IdempotencyKey>,
    pub op: Op,
}

/// A client's own mark of one call over all its attempts; within 15 minutes of state time the same one gets the same
/// success (`protocols.md` §3.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// `amz-sdk-invocation-id`, at most 64 bytes.
    pub invocation: String,
    pub operation: String,
    /// BLAKE3 of the request's body.
    pub body: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// The first command of a cluster, once.
    Found(Box<Founding>),
    /// Moves state time and drops what has expired; proposed each minute.
    Tick,
    /// A step in time of more than an hour, with the clocks of a majority of the nodes: none may be below `to`.
    AdvanceTime {
        to: Timestamp,
        clocks: Vec<(NodeId, Timestamp)>,
    },
    RaiseClusterVersion {
        to: u16,
    },
    PutNode(Box<NodeRecord>),
    PutAccessKey(Box<AccessKey>),
    PutAccountSetting {
        name: String,
        value: String,
    },

    CreateCacheRule(Box<CacheRule>),
    UpdateCacheRule(CacheRuleUpdate),
    DeleteCacheRule {
        prefix: Prefix,
    },
    CreateTemplate(Box<Template>),
    UpdateTemplate(Box<TemplateUpdate>),
    DeleteTemplate {
        prefix: Prefix,
    },

    CreateRepository {
        name: Name,
        settings: Box<RepositorySettings>,
    },
    DeleteRepository {
        name: Name,
        force: bool,
    },
    PutMutability {
        name: Name,
        mutability: Mutability,
    },
    PutScanOnPush {
        name: Name,
        scan_on_push: bool,
    },
    TagRepository {
        name: Name,
        put: BTreeMap<String, String>,
        remove: Vec<String>,
    },

    /// At most [`PART_LIMIT`] of a manifest that is too long for one entry; dropped after 10 minutes of state time.
    PutManifestPart {
        digest: Digest,
        index: u16,
        bytes: Bytes,
    },
    ImportImage(Box<ImportImage>),
    LinkBlob(LinkBlob),
    DeleteImages {
        repository: Name,
        images: Vec<ImageId>,
    },
    /// Validations and pulls since the last one; at most one proposal per node and minute.
    RecordUse(Use),

    // From here on: cluster version 2.
    /// All options, from the version of the rule that was read; `revalidate_after` stays when it is `None`.
    PutCacheRuleOptions {
        prefix: Prefix,
        expect_version: u64,
        options: Box<CacheRuleOptions>,
        revalidate_after: Option<Duration>,
    },
    /// From the revision that was read; 0: there was none of this name.
    PutSecret {
        expect_revision: u64,
        secret: Box<Secret>,
    },
    /// At once and for good.
    DeleteSecret {
        name: String,
        expect_revision: u64,
    },
    /// A robot and its first key.
    CreateRobot {
        robot: Box<Robot>,
        key: Box<AccessKey>,
    },
    /// With all its keys.
    DeleteRobot {
        name: String,
    },
    DeleteAccessKey {
        id: String,
    },
    /// A rule that is never without its options.
    CreateCacheRuleWithOptions {
        rule: Box<CacheRule>,
        options: Box<CacheRuleOptions>,
    },
}

/// What a cluster is founded with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    pub cluster: ClusterId,
    pub account_id: String,
    pub home_region: String,
    pub node: NodeRecord,
    pub root_key: AccessKey,
}

/// The two fields that AWS lets change, and ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheRuleUpdate {
    pub prefix: Prefix,
    pub credential_arn: Option<String>,
    pub custom_role_arn: Option<String>,
    pub revalidate_after: Option<Duration>,
}

/// `None` leaves a field as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateUpdate {
    pub prefix: Prefix,
    pub description: Option<Option<String>>,
    pub settings: TemplateSettingsUpdate,
    pub applied_for: Option<Vec<Scenario>>,
    pub custom_role_arn: Option<Option<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateSettingsUpdate {
    pub mutability: Option<Mutability>,
    pub encryption: Option<flotilla_registry::repository::Encryption>,
    pub resource_tags: Option<BTreeMap<String, String>>,
    pub policy: Option<Option<String>>,
    pub lifecycle: Option<Option<String>>,
}

/// An image from upstream. `apply` resolves the template, so the proposer's view of templates may be old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportImage {
    pub repository: Name,
    /// The incarnation that was read before upstream was asked; `None` when there was no repository.
    pub expect_incarnation: Option<u64>,
    pub origin: Origin,
    pub expect_rule_version: u64,
    /// The tag to set, from the version that was read before upstream was asked.
    pub tag: Option<TagUpdate>,
    pub digest: Digest,
    pub media_type: MediaType,
    pub len: ByteLen,
    /// The whole manifest; `None` when its parts are staged, or its bytes are held under this digest already.
    pub bytes: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagUpdate {
    pub tag: Tag,
    /// 0: the tag did not exist.
    pub expect_version: u64,
}

/// A blob belongs to a repository from now on: its bytes came through that repository's rule, or its upstream vouched
/// for it. Being named by a manifest is no reason (`requirements.md` A, "Links").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkBlob {
    pub repository: Name,
    /// `None`: the repository is made from its template if it is missing, as for an import of `origin`.
    pub expect_incarnation: Option<u64>,
    pub origin: Option<Origin>,
    pub digest: Digest,
    pub size: ByteLen,
    /// Nodes that hold it sealed.
    pub copies: Vec<NodeId>,
}

/// At most 4,096 of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// Repository, tag, tag version, when upstream confirmed it.
    pub validated: Vec<(Name, Tag, u64, Timestamp)>,
    /// Repository, manifest, last pull.
    pub pulled: Vec<(Name, Digest, Timestamp)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    Done,
    Rule(Box<CacheRule>),
    Template(Box<Template>),
    Repository(Box<Repository>),
    Imported {
        created_repository: bool,
        incarnation: u64,
        /// Version of the tag after the import; 0 without a tag.
        tag_version: u64,
        /// The tag names `digest` now. `false`: it is frozen on another one, and only its validation time moved.
        moved: bool,
    },
    Linked {
        incarnation: u64,
    },
    /// In the order of the request: what was removed, or why not.
    ImagesDeleted(Vec<ImageDeletion>),
    Secret(Box<Secret>),
    Robot(Box<Robot>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageDeletion {
    /// Every tag that went, or the image alone.
    Deleted {
        digest: Digest,
        tags: Vec<Tag>,
    },
    NotFound,
    TagDoesNotMatchDigest,
    /// A list in this repository still names it.
    ReferencedByList,
    MissingDigestAndTag,
}

pub type Reply = Result<Outcome, Refusal>;

impl CommandBatch {
    /// One log entry.
    ///
    /// # Errors
    /// [`CodecError`], `TooLong` above [`COMMAND_LIMIT`].
    pub fn encode(&self) -> Result<Bytes, CodecError> {
        let bytes = codec::encode(COMMAND_VERSION, self)?;
        let len = ByteLen(bytes.len() as u64);
        if len > COMMAND_LIMIT {
            return Err(CodecError::TooLong { len, limit: COMMAND_LIMIT });
        }
        Ok(bytes.into())
    }
}
