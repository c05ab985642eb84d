//! The calls of an upstream against a scripted HTTP server on a port of its own.

mod auth;
mod destinations;
mod downloads;
mod ecr;
mod manifests;
mod proxies;
mod redirects;
mod server;
mod tls;
mod trouble;

use std::{sync::Arc, time::Duration};

use flotilla_base::Secret;
use flotilla_oci::{Algorithm, Digest, Name, Reference};
use flotilla_runtime::Host;
use prometheus_client::{encoding::text::encode, registry::Registry};
use url::Url;

use crate::{Account, Credential, Download, HostConfig, Upstream, UpstreamConfig, Upstreams, tests::server::Server};

const HOST: &str = "registry.example";

/// A node's upstreams, of which [`HOST`] is at `server`.
struct Node {
    upstreams: Upstreams,
    registry: Registry,
    host: Host,
}

impl Node {
    fn new(server: &Server) -> Self {
        Self::with(server, |_| {})
    }

    fn with(server: &Server, change: impl FnOnce(&mut UpstreamConfig)) -> Self {
        let own = HostConfig { base_url: Some(Url::parse(&server.url("")).unwrap()), ..HostConfig::default() };
        let mut config = UpstreamConfig {
            hosts: [(HOST.to_owned(), own)].into(),
            head_timeout: Duration::from_secs(5),
            progress_timeout: Duration::from_millis(200),
            ..UpstreamConfig::default()
        };
        change(&mut config);
        let (host, mut registry) = (Host::system(), Registry::default());
        let upstreams = Upstreams::new(host.clone(), config, &mut registry).unwrap();
        Self { upstreams, registry, host }
    }

    fn anonymous(&self) -> Arc<Upstream> {
        self.upstreams.client(&Account { host: HOST.to_owned(), credential: None })
    }

    fn user(&self, secret: &str) -> Arc<Upstream> {
        let credential = Credential::Password { username: "user".to_owned(), secret: Secret::from(secret.to_owned()) };
        self.upstreams.client(&Account { host: HOST.to_owned(), credential: Some(credential) })
    }

    /// The value of a line of the metrics, zero when there is none.
    fn metric(&self, line: &str) -> u64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|found| found.strip_prefix(line)).unwrap_or(" 0");
        value.trim().parse().unwrap()
    }

    fn bytes(&self) -> u64 {
        self.metric(r#"flotilla_upstream_bytes_total{upstream="registry.example"}"#)
    }

    fn requests(&self, code: &str) -> u64 {
        self.metric(&format!(r#"flotilla_upstream_requests_total{{upstream="registry.example",code="{code}"}}"#))
    }
}

fn name() -> Name {
    "team/app".parse().unwrap()
}

fn tag() -> Reference {
    "latest".parse().unwrap()
}

fn digest(bytes: &[u8]) -> Digest {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    Digest::from_hash(Algorithm::Sha256, hash.as_ref()).unwrap()
}

/// Bytes of which no two neighbouring stretches are alike.
fn blob(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// What a download gives, and how it ends.
async fn read(download: Download) -> (Vec<u8>, Result<(), crate::UpstreamError>) {
    let mut body = download.body;
    let mut all = Vec::new();
    while let Some(chunk) = body.chunk().await {
        match chunk {
            Ok(chunk) => all.extend_from_slice(&chunk),
            Err(error) => {
                assert!(body.chunk().await.is_none(), "nothing follows an error");
                return (all, Err(error.0.downcast_ref::<crate::UpstreamError>().unwrap().clone()));
            }
        }
    }
    (all, Ok(()))
}
