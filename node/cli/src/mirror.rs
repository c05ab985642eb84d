//! Makes the container engines of a machine pull through nodes: what has to stand in which file, written there on
//! request, and a check that pulls really arrive. Nothing outside the folder that `--write` names is touched.

mod check;
mod containerd;
mod docker;
mod k3s;
mod plan;
mod podman;
mod write;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

pub use self::check::CheckOptions;
use self::plan::{Engine, Plan, Wish};
use crate::{
    command::ClientOptions,
    error::CliError,
    rule,
    run::{self, Report, Session},
    settings::Environment,
    transport::Endpoint,
};

#[derive(Subcommand, Clone, Debug)]
pub enum MirrorCommand {
    /// docker: Docker Hub's names, through `registry-mirrors` in daemon.json
    #[command(after_long_help = "The endpoint is the mirror's own listener: [mirror] listen (or hosts) in the node's \
        configuration. docker asks its mirrors for Docker Hub's images only, and Docker Hub itself when they fail.\n\n\
        Example:\n  \
        flotilla mirror docker --endpoint http://10.0.0.7:5001 --write /etc/docker")]
    Docker(MirrorOptions),
    /// containerd, and Kubernetes and nerdctl on it: every registry, through certs.d/…/hosts.toml
    #[command(after_long_help = "Examples:\n  \
        flotilla mirror containerd --endpoint https://10.0.0.7:5000 --ca /etc/flotilla/ca.pem\n  \
        flotilla mirror containerd --endpoint http://a:5000 --endpoint http://b:5000 --write /etc/containerd/certs.d\n  \
        flotilla mirror containerd --registry docker.io --registry quay.io --fail-closed")]
    Containerd(MirrorOptions),
    /// podman, buildah and skopeo: the registries that rules mirror, through registries.conf.d
    #[command(
        after_long_help = "Asks the node for its rules with --mirror, or takes them from --registry HOST=PREFIX.\n\n\
        Examples:\n  \
        flotilla mirror podman --write /etc/containers/registries.conf.d\n  \
        flotilla mirror podman --endpoint http://10.0.0.7:5000 --registry docker.io=docker-hub"
    )]
    Podman(MirrorOptions),
    /// CRI-O: as podman
    Crio(MirrorOptions),
    /// k3s and RKE2: every registry, through registries.yaml
    #[command(after_long_help = "Example:\n  \
        flotilla mirror k3s --endpoint http://10.0.0.7:5000 --write /etc/rancher/k3s")]
    K3s(MirrorOptions),
    /// Look whether this machine's containerd is set up, and whether a pull arrives at the nodes
    #[command(after_long_help = "Examples:\n  \
        flotilla mirror check\n  \
        flotilla mirror check --endpoint http://10.0.0.7:5000 --image quay.io/prometheus/node-exporter:latest")]
    Check(CheckOptions),
}

#[derive(Args, Clone, Debug, Default)]
pub struct MirrorOptions {
    /// Only this registry; may be repeated. podman and CRI-O: HOST=PREFIX names the rule's prefix
    #[arg(long, value_name = "HOST")]
    pub registry: Vec<String>,
    /// Never ask the registry itself when no node answers
    #[arg(long)]
    pub fail_closed: bool,
    /// Certificate authority (PEM) of the nodes, where the engine finds it
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File with USER:PASSWORD, or a whole Authorization header, to send to the nodes
    #[arg(long, value_name = "FILE")]
    pub authorization_file: Option<PathBuf>,
    /// Write into this folder instead of printing; what was there is kept beside it
    #[arg(long, value_name = "DIR")]
    pub write: Option<PathBuf>,
    /// Put back what was in the folder before
    #[arg(long, requires = "write")]
    pub remove: bool,
}

pub(crate) async fn run(
    command: &MirrorCommand,
    options: &ClientOptions,
    environment: &Environment,
) -> Result<Report, CliError> {
    let (engine, mirror) = match command {
        MirrorCommand::Docker(mirror) => (Engine::Docker, mirror),
        MirrorCommand::Containerd(mirror) => (Engine::Containerd, mirror),
        MirrorCommand::Podman(mirror) => (Engine::Podman, mirror),
        MirrorCommand::Crio(mirror) => (Engine::Crio, mirror),
        MirrorCommand::K3s(mirror) => (Engine::K3s, mirror),
        MirrorCommand::Check(check) => return check::run(check, options, environment).await,
    };
    let folder = mirror.write.as_ref().map(|folder| environment.path(folder));
    if let Some(folder) = folder.as_ref().filter(|_| mirror.remove) {
        let removed = write::remove(engine, folder)?;
        return Ok(report(options, removed, Vec::new()));
    }
    let wish = wish(mirror, options, environment)?;
    let plan = match engine {
        Engine::Docker => docker::plan(&wish)?,
        Engine::Containerd => containerd::plan(&wish)?,
        Engine::K3s => k3s::plan(&wish)?,
        Engine::Podman | Engine::Crio => {
            let routes = if podman::are_routes(&wish.registries) {
                podman::given(&wish.registries)?
            } else {
                podman::of_rules(&rules(&wish, options, environment).await?, &wish.registries)?
            };
            podman::plan(&wish, engine, &routes)
        }
    };
    let Plan { files, mut notes } = plan;
    if wish.authorization.is_some() && wish.endpoints.iter().any(|endpoint| !endpoint.is_tls()) {
        let text = "nodes refuse logins over http:// from other machines, unless http.allow_plaintext is set";
        notes.push(text.to_owned());
    }
    match folder {
        Some(folder) => {
            let written = files.iter().map(|file| write::install(&folder, file)).collect::<Result<Vec<_>, _>>()?;
            Ok(report(options, written, notes))
        }
        None => Ok(show(options, engine, &files, notes)),
    }
}

fn wish(mirror: &MirrorOptions, options: &ClientOptions, environment: &Environment) -> Result<Wish, CliError> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for text in &options.endpoint {
        let endpoint = crate::settings::parse_endpoint_option(text)?;
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    if endpoints.is_empty() {
        endpoints.push(crate::settings::find_endpoint(None, environment)?);
    }
    let authorization = mirror.authorization_file.as_ref().map(|file| plan::authorization(&environment.path(file)));
    Ok(Wish {
        endpoints,
        registries: mirror.registry.clone(),
        fail_closed: mirror.fail_closed,
        ca: mirror.ca.clone(),
        authorization: authorization.transpose()?,
        prints: mirror.write.is_none(),
    })
}

/// From the first node that answers.
async fn rules(
    wish: &Wish,
    options: &ClientOptions,
    environment: &Environment,
) -> Result<Vec<flotilla_aws::flotilla::CacheRuleOptions>, CliError> {
    let mut unreachable = None;
    for endpoint in &wish.endpoints {
        let session = Session::with(Some(&endpoint.to_string()), options, environment)?;
        match rule::describe(&session, None).await {
            Err(error) if error.code() == 3 => unreachable = Some(error),
            answer => return answer,
        }
    }
    Err(unreachable.unwrap_or_else(|| CliError::Usage("no endpoint is given".into())))
}

fn report(options: &ClientOptions, lines: Vec<write::Done>, notes: Vec<String>) -> Report {
    let text = if options.json {
        let shown: Vec<_> = lines.iter().map(|done| json!({ "file": done.path, "outcome": done.outcome })).collect();
        run::json(&json!({ "files": shown }))
    } else {
        lines.iter().map(|done| format!("{} {}\n", done.outcome, done.path.display())).collect()
    };
    Report { text, notes, outcome: Ok(()) }
}

fn show(options: &ClientOptions, engine: Engine, files: &[plan::File], notes: Vec<String>) -> Report {
    let at = |file: &plan::File| format!("{}/{}", engine.folder(), file.name);
    let text = if options.json {
        let shown: Vec<_> =
            files.iter().map(|file| json!({ "file": at(file), "content": file.content.alone() })).collect();
        run::json(&json!({ "files": shown }))
    } else {
        let verb = if engine == Engine::Docker { "merge into " } else { "" };
        files.iter().map(|file| format!("# {verb}{}\n{}\n", at(file), file.content.alone())).collect()
    };
    Report { text, notes, outcome: Ok(()) }
}
