//! A node's use cases over a real group of one, a real store and [`Upstream`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flotilla_base::{ByteLen, ClusterId, NodeId, RequestId, Timestamp};
use flotilla_consensus::{Consensus, ConsensusConfig};
use flotilla_oci::{Algorithm, Digest, MediaType, Reference, Tag};
use flotilla_registry::{
    NodeRecord, NodeState, Prefix, Sealed,
    access::{AccessKey, Action, PrincipalArn},
    cache_rule::{CacheRule, CacheRuleOptions, Target},
};
use flotilla_runtime::{Clock, Host};
use flotilla_state::{CLUSTER_VERSION, Founding, Op, Outcome};
use flotilla_storage::{BlobConfig, BlobStore, Keyring};
use flotilla_transfer::{Blob, Origins, Refetch, Transfer};
use flotilla_upstream::{HostConfig, UpstreamConfig, Upstreams};
use prometheus_client::registry::Registry;

use super::upstream::Upstream;
use crate::{
    Caller, LimitsConfig, NodeIdentity, Parts, Permit, Pull, PullConfig, ServedBlob, ServedManifest, ServiceError,
    proposer::Proposer,
};

/// A host that is believed without its bytes, and the rule for it.
pub(super) const TRUSTED: &str = "registry-1.docker.io";
/// One that is not.
pub(super) const UNTRUSTED: &str = "registry.example";

pub(super) const TTL: Duration = Duration::from_secs(600);

const NODE: NodeId = NodeId(7);

/// What the node has to do with.
pub(super) struct Limits {
    pub store: ByteLen,
    /// Requests at once, per upstream.
    pub concurrency: usize,
    pub callers: LimitsConfig,
}

impl Default for Limits {
    fn default() -> Self {
        Self { store: ByteLen::gib(1), concurrency: 32, callers: LimitsConfig::default() }
    }
}

pub(super) struct Bench {
    pub pull: Arc<Pull>,
    pub upstream: Upstream,
    pub consensus: Arc<Consensus>,
    pub blobs: BlobStore,
    pub refetch: Arc<Refetch>,
    clock: Arc<AtomicU64>,
    caller: Caller,
    registry: Registry,
    _dir: tempfile::TempDir,
}

pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    Digest::from_hash(Algorithm::Sha256, hash.as_ref()).unwrap()
}

/// A manifest that no other `seed` has, naming `blobs`.
pub(super) fn manifest(seed: &str, blobs: &[Digest]) -> Bytes {
    let descriptor = |digest: &Digest| serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest.to_string(), "size": 5});
    let config = digest_of(b"{}");
    let json = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": MediaType::OCI_MANIFEST,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.to_string(), "size": 2},
        "layers": blobs.iter().map(descriptor).collect::<Vec<_>>(),
        "annotations": {"seed": seed},
    });
    Bytes::from(serde_json::to_vec(&json).unwrap())
}

impl Bench {
    pub(super) async fn new() -> Self {
        Self::with(PullConfig::default()).await
    }

    pub(super) async fn with(config: PullConfig) -> Self {
        Self::within(config, Limits::default()).await
    }

    pub(super) async fn within(config: PullConfig, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        let clock = Arc::new(AtomicU64::new(1_800_000_000_000));
        let host = Host { clock: Clock::Simulated(clock.clone()), ..Host::system() };
        let mut registry = Registry::default();
        let parts = flotilla_consensus::Parts {
            node: NODE,
            host: host.clone(),
            dir: dir.path().join("consensus"),
            config: ConsensusConfig::default(),
        };
        let consensus = Consensus::start(parts, &mut registry).await.unwrap();
        consensus.found(founding(host.clock.now())).await.unwrap();
        for (prefix, upstream_host) in [("dh", TRUSTED), ("ex", UNTRUSTED), ("dh2", TRUSTED)] {
            consensus.propose(&PrincipalArn::system(), None, rule(prefix, upstream_host)).await.unwrap();
        }
        let refetch = Arc::new(Refetch::new(consensus.view()));
        let blobs = BlobConfig {
            dir: dir.path().join("blobs"),
            max_bytes: limits.store,
            reserve: ByteLen(0),
            verify_interval: Duration::from_secs(3600),
            reuse_after: Duration::from_secs(60),
        };
        let blobs = BlobStore::open(host.clone(), blobs, refetch.clone(), &mut registry).await.unwrap();
        let upstreams = UpstreamConfig {
            hosts: hosts(upstream.port),
            concurrency: limits.concurrency,
            hop_header_id: "cluster".into(),
            ..UpstreamConfig::default()
        };
        let upstreams = Upstreams::new(host.clone(), upstreams, &mut registry).unwrap();
        let view = consensus.view();
        let keyring = Arc::new(Keyring::open_or_create(&host, &dir.path().join("keys")).unwrap());
        let origins = Arc::new(Origins::new(view.clone(), upstreams.clone(), keyring.clone()));
        let transfer =
            flotilla_transfer::Parts { node: NODE, host: host.clone(), blobs: blobs.clone(), origins: origins.clone() };
        let transfer = Transfer::new(transfer, &mut registry);
        let node = NodeIdentity {
            node: NODE,
            name: "n1".into(),
            cluster: ClusterId(1),
            region: "eu-central-1".into(),
            version: "0",
        };
        let parts = Parts {
            node,
            host,
            view,
            consensus: consensus.clone(),
            transfer,
            origins,
            upstreams,
            blobs: blobs.clone(),
            keyring,
        };
        let pull = Pull::new(
            &parts,
            config,
            crate::limits::Limits::new(limits.callers, &mut registry),
            Proposer::new(&parts),
            &mut registry,
        );
        let caller = Caller {
            principal: PrincipalArn::root("123456789012"),
            access_key: None,
            source_ip: None,
            request: RequestId(1),
            region: None,
            idempotency: None,
        };
        Self { pull, upstream, consensus, blobs, refetch, clock, caller, registry, _dir: dir }
    }

    /// Whether the metrics have this line.
    pub(super) fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text.lines().any(|found| found == line)
    }

    /// A caller without credentials, from there.
    pub(super) fn anonymous(&self, address: &str) -> Caller {
        let source_ip = Some(address.parse().unwrap());
        Caller { principal: PrincipalArn::anonymous(), source_ip, ..self.caller.clone() }
    }

    pub(super) fn user(&self, name: &str) -> Caller {
        Caller { principal: PrincipalArn::user("123456789012", name), ..self.caller.clone() }
    }

    pub(super) async fn manifest_as(
        &self,
        caller: &Caller,
        name: &str,
        reference: &str,
    ) -> Result<ServedManifest, ServiceError> {
        let permit = Permit { caller, action: Action("ecr:BatchGetImage") };
        self.pull.manifest(permit, &self.target(name), &reference.parse().unwrap()).await
    }

    pub(super) async fn blob_as(
        &self,
        caller: &Caller,
        name: &str,
        digest: &Digest,
    ) -> Result<ServedBlob, ServiceError> {
        let permit = Permit { caller, action: Action("ecr:GetDownloadUrlForLayer") };
        self.pull.blob(permit, &self.target(name), digest).await
    }

    pub(super) fn is_repository(&self, name: &str) -> bool {
        let view = self.consensus.view().load();
        view.tables().repository(&name.parse().unwrap()).unwrap().is_some()
    }

    fn permit(&self) -> Permit<'_> {
        Permit { caller: &self.caller, action: Action("ecr:BatchGetImage") }
    }

    pub(super) fn advance(&self, by: Duration) {
        self.clock.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::Relaxed);
    }

    pub(super) fn target(&self, name: &str) -> Target {
        self.pull.target(&name.parse().unwrap())
    }

    pub(super) async fn manifest(&self, name: &str, reference: &str) -> Result<ServedManifest, ServiceError> {
        let reference: Reference = reference.parse().unwrap();
        self.pull.manifest(self.permit(), &self.target(name), &reference).await
    }

    pub(super) async fn blob(&self, name: &str, digest: &Digest) -> Result<ServedBlob, ServiceError> {
        self.pull.blob(self.permit(), &self.target(name), digest).await
    }

    pub(super) async fn blob_len(&self, name: &str, digest: &Digest) -> Result<ByteLen, ServiceError> {
        self.pull.blob_len(self.permit(), &self.target(name), digest).await
    }

    pub(super) async fn refresh(&self, name: &str, tag: &str) -> crate::Refreshed {
        let tag: Tag = tag.parse().unwrap();
        self.pull.refresh(self.permit(), &self.target(name), Some(&tag)).await.unwrap().remove(0)
    }

    pub(super) async fn propose(&self, op: Op) -> Outcome {
        self.consensus.propose(&PrincipalArn::system(), None, op).await.unwrap()
    }

    pub(super) async fn set_options(&self, prefix: &str, options: CacheRuleOptions) {
        let prefix: Prefix = prefix.parse().unwrap();
        let expect_version = self.consensus.view().load().rules.get(&prefix).unwrap().version;
        let options = Box::new(options);
        self.propose(Op::PutCacheRuleOptions { prefix, expect_version, options, revalidate_after: None }).await;
    }

    pub(super) fn is_linked(&self, name: &str, digest: &Digest) -> bool {
        let view = self.consensus.view().load();
        view.tables().link(&name.parse().unwrap(), digest).unwrap().is_some()
    }

    /// Waits for the link of a blob, which follows its last byte.
    pub(super) async fn linked(&self, name: &str, digest: &Digest) {
        let name = name.parse().unwrap();
        let mut view = self.consensus.view();
        let waited = view.wait_until(|view| view.tables().link(&name, digest).unwrap().is_some());
        tokio::time::timeout(Duration::from_secs(20), waited).await.unwrap().unwrap();
    }
}

/// All bytes; `None` when they were cut.
pub(super) async fn drained(served: ServedBlob) -> Option<Bytes> {
    let mut bytes = BytesMut::new();
    match served.blob {
        Blob::Local(mut reader) => {
            while let Some(chunk) = reader.chunk().await {
                bytes.extend_from_slice(&chunk.ok()?);
            }
        }
        Blob::Through { mut body, .. } => {
            while let Some(chunk) = body.chunk().await {
                bytes.extend_from_slice(&chunk.ok()?);
            }
        }
    }
    Some(bytes.freeze())
}

fn hosts(port: u16) -> BTreeMap<String, HostConfig> {
    let to = |host: &str| HostConfig {
        base_url: Some(format!("http://127.0.0.1:{port}/{host}").parse().unwrap()),
        ..HostConfig::default()
    };
    [TRUSTED, UNTRUSTED].into_iter().map(|host| (host.to_owned(), to(host))).collect()
}

pub(super) fn rule(prefix: &str, host: &str) -> Op {
    Op::CreateCacheRule(Box::new(CacheRule {
        prefix: prefix.parse().unwrap(),
        upstream_url: host.into(),
        upstream_host: host.into(),
        upstream_prefix: None,
        upstream_prefix_sent: None,
        upstream_registry: None,
        credential_arn: None,
        custom_role_arn: None,
        created_at: Timestamp(0),
        updated_at: Timestamp(0),
        version: 0,
        revalidate_after: Some(TTL),
        is_default: false,
    }))
}

fn founding(now: Timestamp) -> Founding {
    let account_id = "123456789012".to_owned();
    Founding {
        cluster: ClusterId(1),
        home_region: "eu-central-1".into(),
        node: NodeRecord {
            id: NODE,
            name: "n1".into(),
            region: "eu-central-1".into(),
            zone: "a".into(),
            speaks: CLUSTER_VERSION,
            state: NodeState::Active,
            joined_at: now,
        },
        root_key: AccessKey {
            id: "AKIA0000000000000000".into(),
            principal: PrincipalArn::root(&account_id),
            secret: Sealed { key_id: 1, bytes: vec![1; 32] },
            generation: 1,
            enabled: true,
            created_at: now,
        },
        account_id,
    }
}
