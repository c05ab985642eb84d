//! The engines that people pull with, against Debian's docker-registry as the upstream: what they hold afterwards is what
//! upstream holds, and upstream is then no longer needed.

use std::process::Command;

use cluster_tests::{
    Content, Flotilla, Image,
    aws::Aws,
    clients::{Containerd, Docker, Registry, find, required, run},
    process::Builder,
};
use serde_json::json;
use tempfile::TempDir;

use crate::common::{DOCKER_HUB, MIB};

struct Hub {
    registry: Registry,
    flotilla: Flotilla,
    images: Vec<(&'static str, Image)>,
}

impl Hub {
    /// A registry with an image of every shape that the engines understand, and a server before it.
    fn start() -> Option<Self> {
        let tool = required(Registry::find(), "docker-registry")?;
        let pair = |seed| vec![Image::oci(seed, &[9000]), Image::oci_for("arm64", seed + 1, &[9000])];
        let images = vec![
            ("single", Image::oci(510, &[70_000, 100])),
            ("docker", Image::docker(511, &[70_000])),
            ("index", Image::index(pair(512))),
            ("list", Image::docker_list(vec![Image::docker(514, &[500])])),
            ("layers", Image::oci(515, &[100; 41])),
            ("large", Image::oci(516, &[300 * MIB])),
        ];
        let registry = Registry::start(&tool);
        for (name, image) in &images {
            registry.push(&format!("shapes/{name}"), "v1", image);
        }
        registry.push("shapes/artifact", "v1", &Image::artifact(517));
        let flotilla = Builder::new(crate::FLOTILLA).upstream_url(DOCKER_HUB, &registry.url()).start();
        Some(Self { registry, flotilla, images })
    }

    fn reference(&self, name: &str) -> String {
        format!("{}/docker-hub/shapes/{name}:v1", self.flotilla.host())
    }

    fn password(&self) -> String {
        self.flotilla.run(&["login-password"]).trim().to_owned()
    }
}

#[test]
fn docker_pulls_every_shape_and_signs_in() {
    let Some(docker) = required(Docker::start(), "docker with its dockerd, as root") else { return };
    let Some(hub) = Hub::start() else { return };
    for (name, image) in &hub.images {
        docker.run(&["pull", "--quiet", &hub.reference(name)]);
        let digests = docker.run(&["image", "inspect", "--format", "{{json .RepoDigests}}", &hub.reference(name)]);
        assert!(digests.contains(image.digest()), "{name}: {digests}");
    }
    if let Some(busybox) = required(find("busybox"), "busybox") {
        let files =
            [("bin/", 0o755, bytes::Bytes::new()), ("bin/busybox", 0o755, std::fs::read(busybox.0).unwrap().into())];
        let runnable = Image::of_layers(518, vec![Content::files(&files)]);
        hub.registry.push("shapes/runnable", "v1", &runnable);
        let said = docker.run(&[
            "run",
            "--rm",
            "--network",
            "none",
            &hub.reference("runnable"),
            "/bin/busybox",
            "echo",
            "it runs",
        ]);
        assert_eq!(said.trim(), "it runs");
    }
    let host = hub.flotilla.host();
    let by_digest = format!("{host}/docker-hub/shapes/single@{}", hub.images[0].1.digest());
    docker.run(&["pull", "--quiet", &by_digest]);
    let wrong = docker.command(&["login", "--username", "AWS", "--password", "wrong", host]).output().unwrap();
    assert!(!wrong.status.success(), "docker login took a wrong password");
    docker.run(&["login", "--username", "AWS", "--password", &hub.password(), host]);
    docker.run(&["rmi", "--force", &hub.reference("index")]);
    docker.run(&["pull", "--quiet", &hub.reference("index")]);
    let described =
        Aws::root(&hub.flotilla).ecr("DescribeImages", &json!({"repositoryName": "docker-hub/shapes/index"}));
    let details = described["imageDetails"].as_array().unwrap();
    let index = details.iter().find(|detail| detail["imageDigest"] == hub.images[2].1.digest()).unwrap();
    assert_eq!(index["imageTags"], json!(["v1"]));
}

#[test]
fn podman_pulls_every_shape() {
    let Some(podman) = required(find("podman"), "podman") else { return };
    let Some(hub) = Hub::start() else { return };
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    std::fs::write(at("auth.json"), "{}").unwrap();
    std::fs::write(at("containers.conf"), "[engine]\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\n")
        .unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&podman.0);
        command.args([
            "--root",
            &at("root"),
            "--runroot",
            &at("run"),
            "--tmpdir",
            &at("tmp"),
            "--storage-driver",
            "vfs",
        ]);
        command.env("CONTAINERS_CONF", at("containers.conf")).env("REGISTRY_AUTH_FILE", at("auth.json"));
        run(command.args(arguments))
    };
    for (name, image) in &hub.images {
        let reference = hub.reference(name);
        run(&["pull", "--quiet", "--tls-verify=false", "--signature-policy", &at("policy.json"), &reference]);
        let digest = run(&["image", "inspect", "--format", "{{json .RepoDigests}}", &reference]);
        assert!(digest.contains(image.digest()), "{name}: {digest}");
    }
    run(&["login", "--tls-verify=false", "--username", "AWS", "--password", &hub.password(), hub.flotilla.host()]);
}

#[test]
fn skopeo_copies_every_shape_byte_for_byte() {
    let Some(skopeo) = required(find("skopeo"), "skopeo") else { return };
    let Some(hub) = Hub::start() else { return };
    let folder = TempDir::new().unwrap();
    for (name, image) in &hub.images {
        let into = folder.path().join(name);
        let (from, to) = (format!("docker://{}", hub.reference(name)), format!("dir:{}", into.display()));
        run(Command::new(&skopeo.0).args([
            "copy",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            &from,
            &to,
        ]));
        assert!(std::fs::read(into.join("manifest.json")).unwrap() == image.manifest.bytes(), "{name}");
        for layer in image.layers() {
            let file = into.join(layer.digest().trim_start_matches("sha256:"));
            assert_eq!(std::fs::metadata(file).unwrap().len(), layer.len(), "{name}");
        }
    }
    let artifact = format!("docker://{}", hub.reference("artifact"));
    run(Command::new(&skopeo.0).args(["inspect", "--raw", "--tls-verify=false", &artifact]));
    let tags = format!("docker://{}/docker-hub/shapes/single", hub.flotilla.host());
    let tags = run(Command::new(&skopeo.0).args(["list-tags", "--tls-verify=false", &tags]));
    assert!(tags.contains("v1"), "{tags}");
    let credentials = format!("AWS:{}", hub.password());
    let signed_in = hub.reference("single");
    run(Command::new(&skopeo.0).args([
        "inspect",
        "--tls-verify=false",
        "--creds",
        &credentials,
        &format!("docker://{signed_in}"),
    ]));
    let wrong = Command::new(&skopeo.0)
        .args(["inspect", "--tls-verify=false", "--creds", "AWS:wrong", &format!("docker://{signed_in}")])
        .output()
        .unwrap();
    assert!(!wrong.status.success(), "skopeo took a wrong password");
}

#[test]
fn containerd_pulls_every_shape_and_signs_in() {
    let Some(containerd) = required(Containerd::start(), "containerd, as root") else { return };
    let Some(hub) = Hub::start() else { return };
    for (name, image) in &hub.images {
        containerd.run(&["images", "pull", "--plain-http", "--snapshotter", "native", &hub.reference(name)]);
        let listed = containerd.run(&["images", "list"]);
        let line = listed.lines().find(|line| line.starts_with(&hub.reference(name))).unwrap_or_default().to_owned();
        assert!(line.contains(image.digest()), "{name}: {listed}");
    }
    let user = format!("AWS:{}", hub.password());
    containerd.run(&[
        "images",
        "pull",
        "--plain-http",
        "--snapshotter",
        "native",
        "--user",
        &user,
        &hub.reference("single"),
    ]);
}
