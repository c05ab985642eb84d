//! One node from the bottom floor to the top. What differs between a machine and a simulation comes in by `Host`.

use std::{net::SocketAddr, path::Path, sync::Arc};

use flotilla_base::{ByteLen, ClusterId, Secret};
use flotilla_consensus::{Consensus, ProposeError};
use flotilla_registry::{
    NodeRecord, NodeState, Refusal,
    access::{AccessKey, PrincipalArn},
    upstream as upstream_table,
};
use flotilla_runtime::Host;
use flotilla_service::{ACCESS_KEY_PURPOSE, LimitsConfig, NodeIdentity, Rate, Services, ServicesConfig};
use flotilla_state::{CLUSTER_VERSION, Founding, Op};
use flotilla_storage::{BlobConfig, BlobStore, Keyring};
use flotilla_transfer::{Origins, Refetch, Transfer};
use flotilla_upstream::{HostConfig, UpstreamConfig, Upstreams};
use prometheus_client::registry::Registry;

use crate::{
    Config,
    data_folder::{DataFolder, FolderError, write_private},
    environment::EnvironmentProxies,
};

/// Kept free for metadata: the larger of this share and of [`RESERVE_MIN`] (`requirements.md` A).
const RESERVE_PERCENT: u64 = 5;
const RESERVE_MIN: ByteLen = ByteLen::gib(4);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("cannot open the keyring")]
    Keyring(#[from] flotilla_storage::KeyringError),
    #[error("cannot open the replicated state")]
    Consensus(#[from] flotilla_consensus::StartError),
    #[error("{} holds no cluster: found one with `serve --init`", .0.display())]
    NotFounded(std::path::PathBuf),
    #[error("cannot found a cluster")]
    Found(#[source] ProposeError),
    #[error("cannot raise the level of the replicated state")]
    Raise(#[source] ProposeError),
    #[error("cannot read the replicated state")]
    State(#[from] flotilla_base::store::StoreError),
    #[error("cannot open the blob store")]
    Blobs(#[from] flotilla_storage::StorageError),
    #[error("[upstream]")]
    Upstream(#[from] flotilla_upstream::UpstreamConfigError),
    #[error("cannot measure the disk of {}", path.display())]
    Disk { path: std::path::PathBuf, source: std::io::Error },
}

/// A node that serves nobody yet.
pub struct Assembled {
    pub consensus: Arc<Consensus>,
    pub services: Arc<Services>,
    pub registry: Registry,
    pub storage_max: ByteLen,
}

/// What the upstream client has to know of the process it runs in.
#[derive(Default)]
pub struct Surroundings {
    /// Of the listeners that were bound, to which no upstream may lead.
    pub own_addresses: Vec<SocketAddr>,
    pub proxies: EnvironmentProxies,
}

/// From the folder's keys and state up to the use cases. With `init` an empty folder founds a cluster, and the root keys
/// are written to `credentials`.
///
/// # Errors
/// [`StartError`]; what was opened is closed again.
pub async fn assemble(
    config: &Config,
    host: &Host,
    folder: &DataFolder,
    credentials: &Path,
    init: bool,
    surroundings: Surroundings,
) -> Result<Assembled, StartError> {
    let mut registry = Registry::default();
    let keyring = Arc::new(Keyring::open_or_create(host, &folder.join("keyring"))?);
    let parts = flotilla_consensus::Parts {
        node: folder.record.node,
        host: host.clone(),
        dir: folder.path().to_owned(),
        config: config.raft.clone(),
    };
    let consensus = Consensus::start(parts, &mut registry).await?;
    let view = consensus.view();
    if !view.load().is_founded() {
        if !init {
            consensus.stop().await;
            return Err(StartError::NotFounded(folder.path().to_owned()));
        }
        found(config, host, folder, credentials, &keyring, &consensus).await?;
    }
    raise_level(folder, &consensus).await?;
    let cluster = view.load().meta.cluster.unwrap_or_default();

    let upstreams = Upstreams::new(host.clone(), upstream_config(config, cluster, surroundings), &mut registry)?;
    let storage_max = config.storage.max_bytes.unwrap_or(folder.record.storage_max);
    let blob_config = BlobConfig {
        dir: folder.join("blobs"),
        max_bytes: storage_max,
        reserve: reserve(config, host, folder.path())?,
        verify_interval: config.storage.verify_interval(),
        reuse_after: config.storage.reuse_after(),
    };
    let refetch = Arc::new(Refetch::new(view.clone()));
    let blobs = BlobStore::open(host.clone(), blob_config, refetch, &mut registry).await?;
    let origins = Arc::new(Origins::new(view.clone(), upstreams.clone(), keyring.clone()));
    let parts = flotilla_transfer::Parts {
        node: folder.record.node,
        host: host.clone(),
        blobs: blobs.clone(),
        origins: origins.clone(),
    };
    let transfer = Transfer::new(parts, &mut registry);
    let parts = flotilla_service::Parts {
        node: NodeIdentity {
            node: folder.record.node,
            name: config.node.name.clone(),
            cluster,
            region: config.node.region.clone(),
            version: env!("CARGO_PKG_VERSION"),
        },
        host: host.clone(),
        view,
        consensus: consensus.clone(),
        transfer,
        origins,
        upstreams,
        blobs,
        keyring,
    };
    let services_config = ServicesConfig {
        access: config.access.clone(),
        limits: limits(config),
        pull: config.pull.clone(),
        rules: config.rules.clone(),
    };
    let services = Services::new(&parts, services_config, &mut registry);
    Ok(Assembled { consensus, services, registry, storage_max })
}

/// The first command of a cluster. The credentials file is written before it: a crash between the two leaves a file
/// that the next start replaces, never a cluster whose root nobody knows.
async fn found(
    config: &Config,
    host: &Host,
    folder: &DataFolder,
    credentials: &Path,
    keyring: &Keyring,
    consensus: &Consensus,
) -> Result<(), StartError> {
    let now = host.clock.now();
    let id = format!("AKIA{}", letters(host, 16, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"));
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let secret = Secret::from(letters(host, 40, alphabet));
    let text = secret.expose_str().unwrap_or_default();
    let content = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = {text}\n");
    write_private(host, credentials, &content)?;
    let founding = Founding {
        cluster: ClusterId(host.entropy.u64()),
        account_id: config.cluster.account_id.clone(),
        home_region: config.node.region.clone(),
        node: NodeRecord {
            id: folder.record.node,
            name: config.node.name.clone(),
            region: config.node.region.clone(),
            zone: config.node.zone.clone(),
            speaks: CLUSTER_VERSION,
            state: NodeState::Active,
            joined_at: now,
        },
        root_key: AccessKey {
            id,
            principal: PrincipalArn::root(&config.cluster.account_id),
            secret: keyring.seal(ACCESS_KEY_PURPOSE, secret.expose()),
            generation: 1,
            enabled: true,
            created_at: now,
        },
    };
    match consensus.found(founding).await {
        Ok(()) | Err(ProposeError::Refused(Refusal::AlreadyFounded)) => {
            tracing::info!(credentials = %credentials.display(), "a cluster was founded");
            Ok(())
        }
        Err(error) => Err(StartError::Found(error)),
    }
}

/// A folder of an older program: its only node speaks what this program does from now on, so nothing newer is proposed
/// before the log says that it may be (`protocols.md` §2.2).
async fn raise_level(folder: &DataFolder, consensus: &Consensus) -> Result<(), StartError> {
    let view = consensus.view().load();
    if view.meta.cluster_version >= CLUSTER_VERSION {
        return Ok(());
    }
    let nodes = view.tables().nodes()?;
    for node in nodes.into_iter().filter(|node| node.id == folder.record.node && node.speaks < CLUSTER_VERSION) {
        let node = NodeRecord { speaks: CLUSTER_VERSION, ..node };
        let put = Op::PutNode(Box::new(node));
        consensus.propose(&PrincipalArn::system(), None, put).await.map_err(StartError::Raise)?;
    }
    let raise = Op::RaiseClusterVersion { to: CLUSTER_VERSION };
    consensus.propose(&PrincipalArn::system(), None, raise).await.map_err(StartError::Raise)?;
    tracing::info!(from = view.meta.cluster_version, to = CLUSTER_VERSION, "the state's level was raised");
    Ok(())
}

/// What `[access.anonymous]` says of misses goes before `[limits.anonymous]`.
fn limits(config: &Config) -> LimitsConfig {
    let mut limits = config.limits.clone();
    if let Some(misses) = config.access.anonymous.misses_per_minute {
        limits.anonymous.misses_per_minute = Rate::PerMinute(misses.into());
    }
    limits
}

/// Uniform letters: both alphabets have a length that divides 256.
fn letters(host: &Host, count: usize, alphabet: &[u8]) -> String {
    let mut random = vec![0; count];
    host.entropy.fill(&mut random);
    random.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect()
}

/// The file's table, with the cluster's mark and our own addresses against loops, the environment's proxies where the file
/// names none, and the plain origins that rules may name.
fn upstream_config(config: &Config, cluster: ClusterId, surroundings: Surroundings) -> UpstreamConfig {
    let mut upstream = config.upstream.clone();
    upstream.hop_header_id = cluster.to_string();
    upstream.own_addresses = surroundings.own_addresses;
    surroundings.proxies.fill(&mut upstream);
    for entry in &config.rules.allowed_upstreams {
        let Ok(url) = upstream_table::parse_url(entry) else { continue };
        let base_url = format!("http://{}", url.host);
        if url.plain && !upstream.hosts.contains_key(&url.host) {
            let base_url = url::Url::parse(&base_url).ok();
            upstream.hosts.insert(url.host, HostConfig { base_url, ..HostConfig::default() });
        }
    }
    upstream
}

fn reserve(config: &Config, host: &Host, folder: &Path) -> Result<ByteLen, StartError> {
    if let Some(reserve) = config.storage.reserve {
        return Ok(reserve);
    }
    let usage = host.disk.usage(folder).map_err(|source| StartError::Disk { path: folder.to_owned(), source })?;
    Ok(RESERVE_MIN.max(ByteLen(usage.total_bytes / 100 * RESERVE_PERCENT)))
}
