//! `flotilla dev`: a working registry for a newcomer, with one command.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
};

use flotilla_api::BindError;
use flotilla_base::RequestId;
use flotilla_registry::{
    Refusal,
    access::{Action, PrincipalArn, Resource},
    upstream,
};
use flotilla_runtime::{Disk, Host, RealDisk};
use flotilla_service::{CacheRuleOptionsUpdate, Caller, NewCacheRule, ServiceError, Services};
use flotilla_upstream::HostConfig;

use crate::{
    Config,
    args::DevArguments,
    config::LogFormat,
    data_folder::write_private,
    node::{self, NodeError, Plan, Ready},
};

/// Prefix and upstream of the registries that everybody pulls from.
const DEFAULT_RULES: [(&str, &str); 7] = [
    ("docker-hub", "registry-1.docker.io"),
    ("quay", "quay.io"),
    ("ghcr", "ghcr.io"),
    ("mcr", "mcr.microsoft.com"),
    ("k8s", "registry.k8s.io"),
    ("redhat", "registry.access.redhat.com"),
    ("ecr-public", "public.ecr.aws"),
];

/// # Errors
/// [`NodeError`].
pub fn run(arguments: &DevArguments) -> Result<(), NodeError> {
    let config = config(arguments)?;
    // Written anew when the node serves: an endpoint of an earlier run must not be believed meanwhile.
    let endpoint_file = arguments.data.join("endpoint");
    let _absent = fs::remove_file(&endpoint_file);
    let plan = Plan { config, credentials: arguments.data.join("credentials"), init: true, reloader: None };
    let outcome = node::run(plan, async |ready| {
        if !arguments.no_default_rules {
            default_rules(&ready).await?;
        }
        let url = ready.addresses.first().map(|address| ready.url(*address)).unwrap_or_default();
        write_private(ready.host, &endpoint_file, &format!("{url}\n"))?;
        greet(&url, &arguments.data, &ready);
        Ok(())
    });
    let _absent = fs::remove_file(&endpoint_file);
    match outcome {
        Err(NodeError::Bind(BindError::Busy(address))) => Err(NodeError::Usage(busy(address))),
        outcome => outcome,
    }
}

/// Names the busy port, and the next one that is free.
fn busy(address: SocketAddr) -> String {
    let free = (address.port().saturating_add(1)..=u16::MAX)
        .take(100)
        .find(|port| TcpListener::bind((address.ip(), *port)).is_ok());
    let other = free.map_or_else(|| "0".to_owned(), |port| port.to_string());
    format!("{address} is in use by another process: stop that, or take another port with --port {other}")
}

fn config(arguments: &DevArguments) -> Result<Config, NodeError> {
    RealDisk
        .create_dir(&arguments.data)
        .map_err(|error| NodeError::Usage(format!("cannot create {}: {error}", arguments.data.display())))?;
    let mut config = Config::for_folder(arguments.data.join("n1"));
    config.http.listen = vec![(Ipv4Addr::LOCALHOST, arguments.port).into()];
    config.http.drain_delay_seconds = 0;
    config.mirror.listen = arguments.mirror_port.map(|port| (Ipv4Addr::LOCALHOST, port).into()).into_iter().collect();
    config.storage.max_bytes = Some(arguments.max_bytes);
    config.access.anonymous.pull = true;
    if arguments.log_json {
        config.log.format = LogFormat::Json;
    }
    if let Some(seconds) = arguments.tag_ttl_seconds {
        config.pull.revalidate_after_seconds = seconds;
    }
    for pair in &arguments.upstream {
        let wrong = |why: String| NodeError::Usage(format!("--upstream {pair}: {why}"));
        let (name, url) = pair.split_once('=').ok_or_else(|| wrong("want HOST=URL".to_owned()))?;
        let host = upstream::parse_url(name).map_err(|error| wrong(error.to_string()))?.host;
        let url = url::Url::parse(url).map_err(|error| wrong(error.to_string()))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(wrong(format!("'{}' is not http or https", url.scheme())));
        }
        config.rules.allowed_upstreams.push(host.clone());
        config.upstream.hosts.insert(host, HostConfig { base_url: Some(url), ..HostConfig::default() });
    }
    Ok(config)
}

/// Made once for a data folder: a rule that its user has deleted does not come back.
async fn default_rules(ready: &Ready<'_>) -> Result<(), NodeError> {
    let mark = ready.folder.join("default-rules");
    if mark.exists() {
        return Ok(());
    }
    for (prefix, upstream_host) in DEFAULT_RULES {
        match create(ready.host, ready.services, prefix, upstream_host).await {
            Ok(()) | Err(ServiceError::Refused(Refusal::RuleExists(_))) => {}
            Err(error) => return Err(NodeError::DefaultRules(error)),
        }
    }
    Ok(write_private(ready.host, &mark, "made\n")?)
}

async fn create(host: &Host, services: &Services, prefix: &str, upstream_host: &str) -> Result<(), ServiceError> {
    let caller = Caller {
        principal: PrincipalArn::root(&services.cluster.account_id()),
        access_key: None,
        source_ip: None,
        request: RequestId(host.entropy.u128()),
        region: None,
        idempotency: None,
    };
    let action = Action("ecr:CreatePullThroughCacheRule");
    let permit = services.access.allow(&caller, action, &Resource::Registry).await?;
    let rule = NewCacheRule {
        prefix: prefix.parse().map_err(|_| ServiceError::Unexpected("a constant prefix"))?,
        upstream_url: upstream_host.to_owned(),
        upstream_registry: None,
        upstream_prefix: None,
        credential_arn: None,
        custom_role_arn: None,
        is_default: true,
        // One for each host, so that a mirror's client finds it.
        options: CacheRuleOptionsUpdate { mirror: Some(true), ..CacheRuleOptionsUpdate::default() },
    };
    services.rules.create(permit, rule).await.map(|_| ())
}

#[expect(clippy::print_stdout, reason = "what the newcomer reads first, and the line that scripts wait for")]
fn greet(url: &str, data: &Path, ready: &Ready<'_>) {
    let host = url.trim_start_matches("http://");
    let data_flag =
        if data == Path::new("flotilla-data") { String::new() } else { format!(" --data {}", data.display()) };
    println!(
        "Flotilla {} keeps up to {} of images in {}",
        env!("CARGO_PKG_VERSION"),
        ready.storage_max,
        data.display()
    );
    println!("  docker pull {host}/docker-hub/library/alpine     anonymous pull through Docker Hub");
    println!("  eval \"$(flotilla env{data_flag})\"                       lets aws and flotilla talk to this node");
    println!("  aws ecr describe-pull-through-cache-rules        or: flotilla rule list");
    println!("  flotilla status                                  Ctrl-C stops it");
    for address in ready.mirror_addresses {
        println!("mirror {}", ready.url(*address));
    }
    println!("ready {url}");
}
