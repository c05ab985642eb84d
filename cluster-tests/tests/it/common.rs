//! What most scenarios begin with: a hub, a server in front of it, and a pull that looks at every byte.

use std::time::Duration;

use cluster_tests::{
    Client, Content, Flotilla, Image, Upstream, aws::Aws, http::Fetched, image::ACCEPT_ALL, process::Builder,
};
use serde_json::json;

pub const MIB: u64 = 1 << 20;
/// Generous: it is for what ends, on a busy machine of two cores.
pub const SOON: Duration = Duration::from_secs(30);
/// The host that the default rule `docker-hub` stands for.
pub const DOCKER_HUB: &str = "registry-1.docker.io";

/// A server whose Docker Hub is `hub`.
pub fn before(hub: &Upstream) -> Builder {
    Builder::new(crate::FLOTILLA).upstream(DOCKER_HUB, hub)
}

/// A hub that holds `image` as `library/app:latest`, and a server in front of it.
pub fn with_image(image: &Image) -> (Upstream, Flotilla) {
    let hub = Upstream::start();
    hub.put("library/app", "latest", image);
    let flotilla = before(&hub).start();
    (hub, flotilla)
}

/// The repository of [`with_image`] as the server names it.
pub const APP: &str = "docker-hub/library/app";

pub fn manifest_path(repository: &str, reference: &str) -> String {
    format!("/v2/{repository}/manifests/{reference}")
}

pub fn blob_path(repository: &str, content: &Content) -> String {
    format!("/v2/{repository}/blobs/{}", content.digest())
}

/// A client that takes every kind of manifest.
pub fn client(flotilla: &Flotilla) -> Client {
    flotilla.client().with("Accept", ACCEPT_ALL)
}

/// Pulls `image` with all it names, and checks every byte.
#[track_caller]
pub fn pull(client: &Client, repository: &str, reference: &str, image: &Image) {
    let manifest = client.get(&manifest_path(repository, reference));
    assert_eq!(manifest.status, 200, "{repository}:{reference}: {}", manifest.text());
    assert!(manifest.body == image.manifest.bytes(), "the manifest of {repository}:{reference} is not verbatim");
    assert_eq!(manifest.header("content-type"), Some(image.media_type));
    assert_eq!(manifest.header("docker-content-digest"), Some(image.digest()));
    for child in &image.children {
        pull(client, repository, child.digest(), child);
    }
    for blob in &image.blobs {
        whole(&client.fetch(&blob_path(repository, blob), &[]), blob);
    }
}

/// The download is `content`, whole.
#[track_caller]
pub fn whole(fetched: &Fetched, content: &Content) {
    assert_eq!(fetched.status, 200, "{fetched:?}");
    assert!(fetched.complete, "{fetched:?}");
    assert_eq!((fetched.received_bytes, fetched.digest.as_str()), (content.len(), content.digest()), "{fetched:?}");
}

/// The download did not pass for a whole blob: it failed, or broke off before its announced end.
#[track_caller]
pub fn not_whole(fetched: &Fetched, content: &Content) {
    let passes = fetched.status == 200 && fetched.complete;
    assert!(!passes, "a wrong or missing blob of {} B was delivered as whole: {fetched:?}", content.len());
}

/// A rule for another host, made through the API.
pub fn create_rule(aws: &Aws, prefix: &str, host: &str) {
    aws.ecr("CreatePullThroughCacheRule", &json!({"ecrRepositoryPrefix": prefix, "upstreamRegistryUrl": host}));
}

/// One setting for all requests that follow: 404s must come from knowledge, so nothing is retried here.
pub fn status_of(client: &Client, path: &str) -> (u16, String) {
    let response = client.get(path);
    (response.status, response.error_code())
}
