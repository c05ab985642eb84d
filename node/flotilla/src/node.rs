//! A node's life: assemble, bind, serve, wait for a signal, drain in order.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use flotilla_api::{BindError, Door, Server};
use flotilla_base::ByteLen;
use flotilla_runtime::Host;
use flotilla_service::Services;
use rustix::process::DumpableBehavior;

use crate::{
    Config, ConfigError, StartError, Surroundings, assemble,
    data_folder::{DataFolder, FolderError},
    environment::EnvironmentProxies,
    notify,
    reload::Reloader,
    signals::{Asked, Signals},
    telemetry::{self, LogLevel},
};

/// Until fills have put down what they hold and the counters are proposed. Partials survive a harder end too.
const TASKS_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("cannot make the default rules")]
    DefaultRules(#[source] flotilla_service::ServiceError),
}

/// How a node is started.
pub struct Plan {
    pub config: Config,
    /// Where the root keys of a founded cluster are written.
    pub credentials: PathBuf,
    pub init: bool,
    /// Reads the configuration again on SIGHUP.
    pub reloader: Option<Reloader>,
}

/// What a starting node tells whoever started it.
pub struct Ready<'a> {
    pub addresses: &'a [SocketAddr],
    pub mirror_addresses: &'a [SocketAddr],
    /// Without TLS.
    pub admin_addresses: &'a [SocketAddr],
    pub services: &'a Services,
    pub host: &'a Host,
    pub folder: &'a DataFolder,
    pub storage_max: ByteLen,
    pub tls: bool,
}

impl Ready<'_> {
    /// How a client on this machine reaches the node.
    pub fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{address}")
    }
}

/// Runs a node until it is told to stop. `ready` is called when it serves.
///
/// # Errors
/// [`NodeError`], before it serves.
pub fn run(plan: Plan, ready: impl AsyncFnOnce(Ready<'_>) -> Result<(), NodeError>) -> Result<(), NodeError> {
    let level = telemetry::start(&plan.config.log).map_err(|reason| ConfigError::Value { key: "log.level", reason })?;
    if !plan.config.node.core_dumps {
        forbid_dumps();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(NodeError::Runtime)?;
    let outcome = runtime.block_on(live(plan, level, ready));
    // What a second signal left behind must not hold the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

/// A core dump holds what is sealed on disk, in the open. The limit on its size would not do: the kernel does not keep it
/// where dumps go to a program (core(5)), as to systemd's.
fn forbid_dumps() {
    if let Err(error) = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "core dumps cannot be switched off; one would hold secrets");
    }
}

async fn live(
    plan: Plan,
    level: LogLevel,
    ready: impl AsyncFnOnce(Ready<'_>) -> Result<(), NodeError>,
) -> Result<(), NodeError> {
    let Plan { config, credentials, init, mut reloader } = plan;
    let mut signals = Signals::listen(reloader.is_some()).map_err(NodeError::Signals)?;
    let host = Host::system();
    // First of all: a busy port is told before a folder is touched.
    let bound = Server::bind(&config.doors()).await?;
    let folder = take_folder(&host, &config.node.data_dir).await?;
    let surroundings = Surroundings { own_addresses: bound.all_addresses(), proxies: EnvironmentProxies::of_process() };
    let assembled = assemble(&config, &host, &folder, &credentials, init, surroundings).await?;
    let door = Door::new(assembled.services.clone(), host.clone(), config.doors(), assembled.registry);
    let server = bound.serve(door);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        node = %folder.record.node,
        name = config.node.name,
        region = config.node.region,
        listen = ?server.addresses(),
        mirror = ?server.mirror_addresses(),
        admin = ?server.admin_addresses(),
        storage_max = %assembled.storage_max,
        "serving"
    );
    let told = Ready {
        addresses: server.addresses(),
        mirror_addresses: server.mirror_addresses(),
        admin_addresses: server.admin_addresses(),
        services: &assembled.services,
        host: &host,
        folder: &folder,
        storage_max: assembled.storage_max,
        tls: config.http.tls.is_some(),
    };
    ready(told).await?;
    notify::ready();
    notify::watch(&host);

    let signal = loop {
        match signals.next().await {
            Asked::Stop(signal) => break signal,
            Asked::Reload => {
                notify::reloading();
                if let Some(reloader) = &mut reloader {
                    reloader.reload(&host, &server, &level).await;
                }
                notify::ready();
            }
        }
    };
    notify::stopping();
    tracing::info!(signal, "stopping: new requests are refused, running ones may end");
    let drained = async {
        server.drain().await;
        // Fills that nobody follows end now. Links and counters are changes: they go while changes are still taken.
        host.tasks.begin_drain();
        assembled.services.pull.settle().await;
        assembled.consensus.stop().await;
        host.tasks.finish(TASKS_DEADLINE).await
    };
    tokio::select! {
        finished = drained => tracing::info!(all_tasks_ended = finished, "stopped"),
        signal = signals.next_stop() => tracing::warn!(signal, "stopped at once, at the second signal"),
    }
    Ok(())
}

async fn take_folder(host: &Host, path: &Path) -> Result<DataFolder, FolderError> {
    let (taker, path) = (host.clone(), path.to_owned());
    host.blocking.run(move || DataFolder::take(&taker, &path)).await
}
