use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use flotilla_aws::{ErrorBody, Operation, json, sigv4};
use flotilla_base::{ByteLen, ClusterId, NodeId, Secret};
use flotilla_consensus::{Consensus, ConsensusConfig};
use flotilla_registry::{
    NodeRecord, NodeState,
    access::{AccessKey, PrincipalArn},
};
use flotilla_runtime::Host;
use flotilla_service::{ACCESS_KEY_PURPOSE, AccessConfig, Anonymous, NodeIdentity, Services, ServicesConfig};
use flotilla_state::{CLUSTER_VERSION, Founding};
use flotilla_storage::{BlobConfig, BlobStore, Everything, Keyring};
use flotilla_transfer::{Origins, Transfer};
use flotilla_upstream::{HostConfig, UpstreamConfig, Upstreams};
use http::Request;
use prometheus_client::registry::Registry;

use super::upstream::Upstream;
use crate::{
    Bound, Door, DoorsConfig, HttpConfig, Server,
    http::test_client::{Reply, send},
};

pub(super) const ACCOUNT: &str = "123456789012";
pub(super) const KEY_ID: &str = "AKIA0000000000000000";
pub(super) const SECRET: &str = "a secret of any length";
/// A host that needs no entry of the operator's.
pub(super) const UPSTREAM: &str = "quay.io";
/// The network of somebody who is not on this machine.
const FAR: &str = "192.0.2.0/24";
const NODE: NodeId = NodeId(7);

pub(super) struct World {
    pub(super) to: SocketAddr,
    pub(super) upstream: Upstream,
    pub(super) host: Host,
    pub(super) server: Server,
    pub(super) consensus: Arc<Consensus>,
    dir: tempfile::TempDir,
}

/// A reply of the AWS door that is an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AwsFailure {
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) message: String,
}

impl World {
    /// A node with the rule `quay`.
    pub(super) async fn new(anonymous_pull: bool) -> Self {
        Self::with(anonymous_pull, |doors| doors).await
    }

    /// As [`World::new`], with doors that differ.
    pub(super) async fn with(anonymous_pull: bool, doors: impl FnOnce(DoorsConfig) -> DoorsConfig) -> Self {
        // Somebody from far away, where a test says that he is.
        let networks = [Anonymous::default().networks, vec![FAR.parse().unwrap()]].concat();
        Self::open_to(Anonymous { pull: anonymous_pull, networks, ..Anonymous::default() }, doors).await
    }

    pub(super) async fn open_to(anonymous: Anonymous, doors: impl FnOnce(DoorsConfig) -> DoorsConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let upstream = Upstream::start().await;
        let host = Host::system();
        let mut registry = Registry::default();
        let parts = flotilla_consensus::Parts {
            node: NODE,
            host: host.clone(),
            dir: dir.path().join("consensus"),
            config: ConsensusConfig::default(),
        };
        let consensus = Consensus::start(parts, &mut registry).await.unwrap();
        let keyring = Arc::new(Keyring::open_or_create(&host, &dir.path().join("keys")).unwrap());
        consensus.found(founding(&host, &keyring)).await.unwrap();
        let blobs = BlobConfig {
            dir: dir.path().join("blobs"),
            max_bytes: ByteLen::gib(1),
            reserve: ByteLen(0),
            verify_interval: Duration::from_secs(3600),
            reuse_after: Duration::from_secs(60),
        };
        let blobs = BlobStore::open(host.clone(), blobs, Arc::new(Everything), &mut registry).await.unwrap();
        let base_url = Some(format!("http://127.0.0.1:{}", upstream.port).parse().unwrap());
        let hosts = BTreeMap::from([(UPSTREAM.to_owned(), HostConfig { base_url, ..HostConfig::default() })]);
        // Short, for the tests in which upstream fails.
        let head_timeout = Duration::from_millis(500);
        let upstreams = UpstreamConfig { hosts, head_timeout, ..UpstreamConfig::default() };
        let upstreams = Upstreams::new(host.clone(), upstreams, &mut registry).unwrap();
        let view = consensus.view();
        let origins = Arc::new(Origins::new(view.clone(), upstreams.clone(), keyring.clone()));
        let parts =
            flotilla_transfer::Parts { node: NODE, host: host.clone(), blobs: blobs.clone(), origins: origins.clone() };
        let transfer = Transfer::new(parts, &mut registry);
        let node = NodeIdentity {
            node: NODE,
            name: "n1".into(),
            cluster: ClusterId(1),
            region: "eu-central-1".into(),
            version: "0.0.0",
        };
        let parts = flotilla_service::Parts {
            node,
            host: host.clone(),
            view,
            consensus: consensus.clone(),
            transfer,
            origins,
            upstreams,
            blobs,
            keyring,
        };
        let access = AccessConfig { anonymous };
        let services = Services::new(&parts, ServicesConfig { access, ..ServicesConfig::default() }, &mut registry);
        let http = HttpConfig {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            drain_delay_seconds: 0,
            drain_timeout_seconds: 1,
            ..HttpConfig::default()
        };
        let config = doors(DoorsConfig { http, ..DoorsConfig::default() });
        let bound = Bound::bind(config.clone()).unwrap();
        let server = bound.serve(Door::new(services, host.clone(), config, registry));
        let world = Self { to: server.addresses()[0], upstream, host, server, consensus, dir };
        let rule = flotilla_aws::ecr::CreatePullThroughCacheRuleInput {
            ecr_repository_prefix: "quay".into(),
            upstream_registry_url: UPSTREAM.into(),
            ..Default::default()
        };
        world.call::<flotilla_aws::ecr::CreatePullThroughCacheRule>(&rule).await.unwrap();
        world
    }

    /// Takes its bytes away from a blob, the only one of `len` bytes.
    pub(super) fn empty_blob(&self, len: usize) {
        let mut folders = vec![self.dir.path().join("blobs")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let meta = entry.metadata().unwrap();
                if meta.is_dir() {
                    folders.push(entry.path());
                } else if meta.len() == len as u64 {
                    return std::fs::OpenOptions::new().write(true).open(entry.path()).unwrap().set_len(0).unwrap();
                }
            }
        }
        panic!("no blob of {len} bytes");
    }

    pub(super) async fn get(&self, target: &str, lines: &[&str]) -> Reply {
        send(self.to, "GET", target, lines, b"").await
    }

    /// GET as root.
    pub(super) async fn pull(&self, target: &str, lines: &[&str]) -> Reply {
        let root = basic(KEY_ID, SECRET);
        let lines: Vec<&str> = lines.iter().copied().chain([root.as_str()]).collect();
        self.get(target, &lines).await
    }

    /// A call as root, by JSON.
    pub(super) async fn call<O: Operation>(&self, input: &O::Input) -> Result<O::Output, AwsFailure> {
        self.call_as::<O>((KEY_ID, SECRET), input).await
    }

    /// A call with another key.
    pub(super) async fn call_as<O: Operation>(
        &self,
        key: (&str, &str),
        input: &O::Input,
    ) -> Result<O::Output, AwsFailure> {
        let target = O::target();
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let reply = self.post_as(key, &json::encode(input), O::SERVICE.signing_name(), &headers).await;
        if reply.status == 200 {
            assert_eq!(reply.header("content-type"), "application/x-amz-json-1.1");
            return Ok(json::decode(&reply.body).unwrap());
        }
        let body: ErrorBody = serde_json::from_slice(&reply.body).unwrap();
        Err(AwsFailure { status: reply.status, code: body.code, message: body.message })
    }

    pub(super) async fn signed<O: Operation>(
        &self,
        body: &[u8],
        secret: &str,
        service: &str,
        extra: &[(&str, &str)],
    ) -> Reply {
        let target = O::target();
        let mut headers = vec![("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        headers.extend(extra);
        self.post(body, secret, service, &headers).await
    }

    pub(super) async fn post(&self, body: &[u8], secret: &str, service: &str, headers: &[(&str, &str)]) -> Reply {
        self.post_as((KEY_ID, secret), body, service, headers).await
    }

    async fn post_as(&self, (id, secret): (&str, &str), body: &[u8], service: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::post("/").header("host", self.to.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let credentials = sigv4::Credentials {
            access_key_id: id.into(),
            secret_access_key: Secret::from(secret.to_owned()),
            session_token: None,
        };
        sigv4::sign(&mut head, body, &credentials, "us-west-2", service, self.host.clock.now()).unwrap();
        let lines: Vec<String> =
            head.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        send(self.to, "POST", "/", &lines, body).await
    }
}

pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

fn founding(host: &Host, keyring: &Keyring) -> Founding {
    let now = host.clock.now();
    Founding {
        cluster: ClusterId(1),
        account_id: ACCOUNT.into(),
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
            id: KEY_ID.into(),
            principal: PrincipalArn::root(ACCOUNT),
            secret: keyring.seal(ACCESS_KEY_PURPOSE, SECRET.as_bytes()),
            generation: 1,
            enabled: true,
            created_at: now,
        },
    }
}
