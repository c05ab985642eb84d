//! Who may have what: a blob belongs to a repository only through a link, and being named by a manifest, or held by the
//! server for somebody else, makes none (design, invariant 6).

use cluster_tests::{Client, Content, Flotilla, Image, Upstream, aws::Aws};
use serde_json::json;

use crate::common::{before, blob_path, client, manifest_path, pull, whole};

const PRIVATE: &str = "docker-hub/team/private";
const OTHER: &str = "quay/mallory/app";

struct Two {
    hub: Upstream,
    quay: Upstream,
    flotilla: Flotilla,
    /// An image of the first upstream, pulled and held.
    private: Image,
    /// An image of the second one, whose manifest names a layer of the first.
    naming: Image,
}

impl Two {
    fn start() -> Self {
        let (hub, quay) = (Upstream::start(), Upstream::start());
        let private = Image::oci(50, &[100_000]);
        let naming = Image::naming(51, &private.layers()[0]);
        hub.put("team/private", "v1", &private);
        quay.put("mallory/app", "v1", &naming);
        let flotilla = before(&hub).upstream("quay.io", &quay).start();
        pull(&client(&flotilla), PRIVATE, "v1", &private);
        Self { hub, quay, flotilla, private, naming }
    }

    fn client(&self) -> Client {
        client(&self.flotilla)
    }
}

/// No way of asking gets a byte, or the fact that it exists.
fn leaks_nothing(client: &Client, repository: &str, content: &Content) {
    let path = blob_path(repository, content);
    for method in ["GET", "HEAD"] {
        for range in [None, Some("bytes=0-99"), Some("bytes=-5"), Some("bytes=0-1,5-9")] {
            let headers: Vec<_> = range.map(|range| ("Range", range)).into_iter().collect();
            let answer = client.request(method, &path, &headers, b"");
            assert_eq!(answer.status, 404, "{method} {range:?} of {repository}");
            if method == "GET" {
                assert_eq!(answer.error_code(), "BLOB_UNKNOWN");
            }
        }
    }
}

#[test]
fn a_manifest_that_names_a_layer_of_another_repository_leaks_nothing() {
    let two = Two::start();
    let client = two.client();
    let foreign = &two.private.layers()[0];
    leaks_nothing(&client, OTHER, foreign);
    // Once more with the naming manifest held.
    pull(&client, OTHER, "v1", &two.naming);
    leaks_nothing(&client, OTHER, foreign);
    leaks_nothing(&client, "docker-hub/team/other", foreign);
    whole(&client.fetch(&blob_path(PRIVATE, foreign), &[]), foreign);
}

#[test]
fn manifests_of_another_repository_are_unknown_too() {
    let two = Two::start();
    let client = two.client();
    let digest = two.private.digest();
    pull(&client, OTHER, "v1", &two.naming);
    for repository in [OTHER, "docker-hub/team/other"] {
        assert_eq!(client.get(&manifest_path(repository, digest)).status, 404);
        assert_eq!(client.head(&manifest_path(repository, digest)).status, 404);
    }
    let aws = Aws::root(&two.flotilla);
    let got = aws.ecr("BatchGetImage", &json!({"repositoryName": OTHER, "imageIds": [{"imageDigest": digest}]}));
    assert_eq!(got["images"], json!([]));
    assert_eq!(got["failures"][0]["failureCode"], "ImageNotFound");
    let held = aws.ecr("BatchGetImage", &json!({"repositoryName": PRIVATE, "imageIds": [{"imageDigest": digest}]}));
    assert_eq!(held["images"][0]["imageManifest"], String::from_utf8_lossy(&two.private.manifest.bytes()).as_ref());
}

#[test]
fn a_client_cannot_join_the_fill_of_another_repository() {
    use cluster_tests::upstream::{Fault, On, Times};
    let (hub, quay) = (Upstream::start(), Upstream::start());
    let private = Image::oci(52, &[8 << 20]);
    hub.put("team/private", "v1", &private);
    quay.put("mallory/app", "v1", &Image::naming(53, &private.layers()[0]));
    let flotilla = before(&hub).upstream("quay.io", &quay).start();
    let layer = &private.layers()[0];
    hub.fault(On::blob(layer.digest()).by("GET"), Times::Always, Fault::Stall { after_bytes: 4 << 20 });
    let mut connection = flotilla.client().connect().unwrap();
    assert_eq!(connection.send("GET", &blob_path(PRIVATE, layer), &[], b"").unwrap().status, 200);
    assert!(connection.read_body(&mut [0; 1000]).unwrap() > 0, "the fill runs");
    leaks_nothing(&client(&flotilla), OTHER, layer);
}

#[test]
fn a_second_upstream_with_the_same_blob_proves_it_itself() {
    let two = Two::start();
    let client = two.client();
    let layer = &two.private.layers()[0];
    leaks_nothing(&client, OTHER, layer);
    two.quay.put_blob("mallory/app", layer);
    two.quay.forget_requests();
    two.hub.forget_requests();
    cluster_tests::wait_for("the refusal to be forgotten within seconds", crate::common::SOON, || {
        client.head(&blob_path(OTHER, layer)).status == 200
    });
    whole(&client.fetch(&blob_path(OTHER, layer), &[]), layer);
    assert!(two.quay.requests().iter().any(|request| request.path.ends_with(layer.digest())), "it was asked");
    assert_eq!(two.hub.requests().len(), 0, "the first upstream has no say in it");
}

#[test]
fn two_names_of_one_upstream_repository_share_bytes_and_not_links() {
    let hub = Upstream::start();
    let image = Image::oci(54, &[100_000]);
    hub.put("library/app", "latest", &image);
    let flotilla = before(&hub).start();
    let client = client(&flotilla);
    pull(&client, "docker-hub/library/app", "latest", &image);
    let layer = &image.layers()[0];
    assert_eq!(hub.blob_gets(layer.digest()), 1);
    // Docker Hub's spelling: a name of one part is one of `library/`.
    pull(&client, "docker-hub/app", "latest", &image);
    assert_eq!(hub.blob_gets(layer.digest()), 1, "the bytes are shared");
    let names = Aws::root(&flotilla).ecr("DescribeRepositories", &json!({}));
    let names: Vec<_> =
        names["repositories"].as_array().unwrap().iter().map(|one| one["repositoryName"].clone()).collect();
    assert_eq!(names, ["docker-hub/app", "docker-hub/library/app"]);
}
