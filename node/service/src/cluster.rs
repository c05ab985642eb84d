//! What the node says about itself, and the settings of the account.

use std::{collections::BTreeMap, sync::Arc};

use flotilla_base::{ByteLen, Timestamp};
use flotilla_consensus::{Consensus, Health};
use flotilla_registry::RepositoryCreation;
use flotilla_runtime::Published;
use flotilla_state::{Op, View};
use flotilla_storage::BlobStore;
use flotilla_transfer::{Origins, Transfer};
use flotilla_upstream::Upstreams;

use crate::{NodeIdentity, Parts, Permit, ServiceError, proposer::Proposer};

/// Account settings with a default that AWS answers for an account that never set them (`ecr-api.md` §6).
const DEFAULT_SETTINGS: [(&str, &str); 3] =
    [("BASIC_SCAN_TYPE_VERSION", "AWS_NATIVE"), ("REGISTRY_POLICY_SCOPE", "V2"), ("BLOB_MOUNTING", "DISABLED")];

const REPOSITORY_CREATION: &str = "PULL_THROUGH_REPOSITORY_CREATION";

pub struct Cluster {
    node: NodeIdentity,
    started_at: Timestamp,
    view: Published<View>,
    consensus: Arc<Consensus>,
    transfer: Arc<Transfer>,
    origins: Arc<Origins>,
    upstreams: Upstreams,
    blobs: BlobStore,
    proposer: Proposer,
}

#[derive(Clone, Debug)]
pub struct NodeStatus {
    pub node: NodeIdentity,
    pub started_at: Timestamp,
    pub raft: flotilla_consensus::Status,
    pub storage: flotilla_storage::BlobUsage,
    pub counts: Counts,
    /// Those of the rules, by host.
    pub upstreams: Vec<UpstreamHealth>,
    pub fills_in_flight: u64,
}

/// What this node knows of an upstream without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamHealth {
    pub host: String,
    pub circuit_open: bool,
    /// Why its credential is of no use; what is held goes on serving.
    pub credential_failure: Option<String>,
    /// What its rate limit leaves, where it tells.
    pub rate_limit_remaining: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub rules: u64,
    pub templates: u64,
    pub repositories: u64,
}

impl Cluster {
    pub(crate) fn new(parts: &Parts, proposer: Proposer) -> Self {
        Self {
            node: parts.node.clone(),
            started_at: parts.host.clock.now(),
            view: parts.view.clone(),
            consensus: parts.consensus.clone(),
            transfer: parts.transfer.clone(),
            origins: parts.origins.clone(),
            upstreams: parts.upstreams.clone(),
            blobs: parts.blobs.clone(),
            proposer,
        }
    }

    /// # Errors
    /// When the state cannot be read.
    pub fn status(&self, _: Permit<'_>) -> Result<NodeStatus, ServiceError> {
        let view = self.view.load();
        let mut by_host = BTreeMap::<&str, Option<String>>::new();
        for rule in view.rules.iter() {
            let failure = by_host.entry(&rule.upstream_host).or_default();
            if failure.is_none() {
                *failure = self.origins.check_credential(rule).err().map(|error| error.to_string());
            }
        }
        let upstreams = by_host.into_iter().map(|(host, failure)| {
            let refused = || "the upstream refuses the credential".to_owned();
            UpstreamHealth {
                host: host.to_owned(),
                circuit_open: self.upstreams.circuit_open(host),
                credential_failure: failure.or_else(|| self.upstreams.account_refused(host).then(refused)),
                rate_limit_remaining: self.upstreams.rate_limit_remaining(host),
            }
        });
        Ok(NodeStatus {
            node: self.node.clone(),
            started_at: self.started_at,
            raft: self.consensus.status(),
            storage: self.blobs.usage(),
            counts: Counts {
                rules: view.rules.iter().count() as u64,
                templates: view.templates.iter().count() as u64,
                repositories: view.tables().repository_count()?,
            },
            upstreams: upstreams.collect(),
            fills_in_flight: self.transfer.fills_in_flight(),
        })
    }

    pub fn node(&self) -> &NodeIdentity {
        &self.node
    }

    /// What the node's own log and health show without a caller.
    pub fn raft(&self) -> flotilla_consensus::Status {
        self.consensus.status()
    }

    /// This node can serve what it holds: neither leader, quorum, upstream nor peers are asked (`requirements.md` A). One
    /// that had to stop applying is not ready: what it holds grows old without anybody noticing (`protocols.md` §2.2).
    ///
    /// # Errors
    /// Why it cannot.
    pub fn ready(&self) -> Result<(), &'static str> {
        if !self.view.load().is_founded() {
            return Err("no cluster is founded here yet");
        }
        match self.consensus.status().health {
            Health::Healthy => Ok(()),
            Health::Stopped(_) => Err("the replicated state had to stop; see the log"),
        }
    }

    pub fn account_id(&self) -> String {
        self.view.load().settings.account_id.clone()
    }

    pub fn home_region(&self) -> String {
        self.view.load().settings.home_region.clone()
    }

    /// What blobs may take on this node.
    pub fn storage_limit(&self) -> ByteLen {
        self.blobs.usage().max
    }

    /// # Errors
    /// `Refused(BadSetting)` for an unknown name or value.
    pub async fn put_setting(&self, permit: Permit<'_>, name: &str, value: &str) -> Result<(), ServiceError> {
        let op = Op::PutAccountSetting { name: name.to_owned(), value: value.to_owned() };
        self.proposer.propose(permit, op).await?;
        Ok(())
    }

    /// The stored value, or the default of a known setting; `None` for an unknown one.
    pub fn setting(&self, _: Permit<'_>, name: &str) -> Option<String> {
        let settings = self.view.load().settings.clone();
        if name == REPOSITORY_CREATION {
            let value = match settings.repository_creation {
                RepositoryCreation::Defaults => "DEFAULTS",
                RepositoryCreation::TemplateRequired => "TEMPLATE_REQUIRED",
            };
            return Some(value.to_owned());
        }
        let default =
            || DEFAULT_SETTINGS.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        settings.account_settings.get(name).cloned().or_else(default)
    }
}
