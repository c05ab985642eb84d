//! Plain image names with the engines that people have, set up by `flotilla mirror` and nothing else: what they hold is
//! what the upstream holds, it came through the node, and when the node is gone they go on or stop as they were told.

use std::{fs, path::Path, process::Command};

use cluster_tests::{
    Flotilla, Image, Upstream,
    clients::{Containerd, Docker, find, free_port, required, run},
};
use tempfile::TempDir;

use crate::common::before;

struct Fleet {
    hub: Upstream,
    flotilla: Flotilla,
    image: Image,
}

impl Fleet {
    fn start() -> Self {
        let hub = Upstream::start();
        let image = Image::index(vec![Image::oci(720, &[70_000, 100]), Image::oci_for("arm64", 721, &[9000])]);
        hub.put("library/bb", "latest", &image);
        let flotilla = before(&hub).arg("--mirror-port").arg("0").start();
        Self { hub, flotilla, image }
    }

    /// Where it stands in for Docker Hub.
    fn mirror(&self) -> String {
        let line = self.flotilla.log().into_iter().find_map(|line| Some(line.strip_prefix("mirror ")?.to_owned()));
        line.expect("a mirror listener")
    }

    /// `flotilla mirror ENGINE … --write FOLDER`, as an operator types it.
    fn write(&self, engine: &str, folder: &Path, endpoints: &[&str], more: &[&str]) -> String {
        let folder = folder.display().to_string();
        let endpoints = endpoints.iter().flat_map(|endpoint| ["--endpoint", endpoint]);
        let arguments: Vec<&str> = ["mirror", engine, "--write", &folder].into_iter().chain(endpoints).collect();
        self.flotilla.run(&[&arguments, more].concat())
    }

    fn asked(&self) -> usize {
        self.hub.requests().iter().filter(|request| request.path.contains("/manifests/")).count()
    }
}

/// An address that nobody answers at: a node that is down.
fn dead() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

#[test]
fn docker_pulls_plain_names_through_its_registry_mirrors() {
    let fleet = Fleet::start();
    let (down, mirror) = (dead(), fleet.mirror());
    let docker = Docker::prepared(|folder| {
        let said = fleet.write("docker", folder, &[&down, &mirror], &[]);
        assert!(said.starts_with("replaced "), "{said}");
    });
    let Some(docker) = required(docker, "docker with its dockerd, as root") else { return };
    docker.run(&["pull", "--quiet", "bb"]);
    let digests = docker.run(&["image", "inspect", "--format", "{{json .RepoDigests}}", "bb"]);
    assert!(digests.contains(&format!("bb@{}", fleet.image.digest())), "{digests}");
    assert!(fleet.asked() > 0);
    fleet.hub.forget_requests();
    docker.run(&["rmi", "--force", "bb"]);
    docker.run(&["pull", "--quiet", "docker.io/library/bb:latest"]);
    assert_eq!(fleet.asked(), 0, "held by the node");
    let repositories = fleet.flotilla.run(&["repository", "list"]);
    assert!(repositories.contains("docker-hub/library/bb"), "{repositories}");
    fleet.write("docker", docker.folder(), &[&mirror], &["--remove"]);
    let restored = fs::read_to_string(docker.folder().join("daemon.json")).unwrap();
    assert!(!restored.contains("registry-mirrors") && restored.contains("storage-driver"), "{restored}");
}

fn ctr<'a>(hosts: &'a str, image: &'a str) -> [&'a str; 7] {
    ["images", "pull", "--hosts-dir", hosts, "--snapshotter", "native", image]
}

#[test]
fn containerd_pulls_plain_names_and_goes_on_without_the_node() {
    let Some(containerd) = required(Containerd::start(), "containerd, as root") else { return };
    let mut fleet = Fleet::start();
    let folder = TempDir::new().unwrap();
    let hosts = folder.path().display().to_string();
    let endpoint = fleet.flotilla.endpoint().to_owned();
    fleet.write("containerd", folder.path(), &[&dead(), &endpoint], &[]);
    let bb = "docker.io/library/bb:latest";
    containerd.run(&ctr(&hosts, bb));
    let listed = containerd.run(&["images", "list"]);
    assert!(listed.lines().any(|line| line.starts_with(bb) && line.contains(fleet.image.digest())), "{listed}");
    let repositories = fleet.flotilla.run(&["repository", "list"]);
    assert!(repositories.contains("docker-hub/library/bb"), "{repositories}");
    assert!(
        fleet.hub.requests().iter().all(|request| !request.query.contains("ns=")),
        "the node asked, not containerd"
    );
    // A registry that no rule mirrors: a quick no, and containerd goes to the registry itself.
    let elsewhere = Upstream::start();
    elsewhere.put("org/app", "latest", &fleet.image);
    let foreign = format!("{}/org/app:latest", elsewhere.host());
    containerd.run(&ctr(&hosts, &foreign));
    assert!(!elsewhere.requests().is_empty());

    // ECR's way: the rule's prefix in the path of the host.
    let third = Image::oci(726, &[1000]);
    fleet.hub.put("library/third", "latest", &third);
    let prefixed = folder.path().join("prefixed");
    fs::create_dir_all(prefixed.join("docker.io")).unwrap();
    let text = format!(
        "server = \"{}\"\n[host.\"{endpoint}/v2/docker-hub\"]\ncapabilities = [\"pull\", \"resolve\"]\noverride_path = true\n",
        dead()
    );
    fs::write(prefixed.join("docker.io/hosts.toml"), text).unwrap();
    containerd.run(&ctr(&prefixed.display().to_string(), "docker.io/library/third:latest"));

    // The node goes; the next in the list is Docker Hub itself, here the scripted one.
    let second = Image::oci(722, &[1000]);
    fleet.hub.put("library/second", "latest", &second);
    fleet.write("containerd", folder.path(), &[&endpoint, &fleet.hub.url()], &["--registry", "docker.io"]);
    fleet.flotilla.kill();
    fleet.hub.forget_requests();
    containerd.run(&ctr(&hosts, "docker.io/library/second:latest"));
    assert!(
        fleet.hub.requests().iter().any(|request| request.query.contains("ns=docker.io")),
        "containerd asked itself"
    );
}

#[test]
fn containerd_told_to_fail_closed_asks_nobody_else() {
    let Some(containerd) = required(Containerd::start(), "containerd, as root") else { return };
    let mut fleet = Fleet::start();
    let folder = TempDir::new().unwrap();
    let hosts = folder.path().display().to_string();
    let endpoint = fleet.flotilla.endpoint().to_owned();
    let login = folder.path().join("login");
    fs::write(&login, format!("AWS:{}", fleet.flotilla.run(&["login-password"]).trim())).unwrap();
    let certs = folder.path().join("certs.d");
    let more = ["--fail-closed", "--authorization-file", &login.display().to_string()];
    fleet.write("containerd", &certs, &[&dead(), &endpoint], &more);
    let hosts = format!("{hosts}/certs.d");
    containerd.run(&ctr(&hosts, "docker.io/library/bb:latest"));
    let said = fleet.flotilla.run(&["repository", "list"]);
    assert!(said.contains("docker-hub/library/bb"), "{said}");
    // A registry that would answer, if it were asked.
    let elsewhere = Upstream::start();
    elsewhere.put("org/app", "latest", &fleet.image);
    let foreign = format!("{}/org/app:latest", elsewhere.host());
    let refused = containerd.command(&ctr(&hosts, &foreign)).output().unwrap();
    assert!(!refused.status.success());
    fleet.flotilla.kill();
    let refused = containerd.command(&ctr(&hosts, "docker.io/library/bb:other")).output().unwrap();
    assert!(!refused.status.success());
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn podman_pulls_plain_names_through_the_rules_that_mirror() {
    let Some(podman) = required(find("podman"), "podman") else { return };
    let mut fleet = Fleet::start();
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(at("policy.json"), r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    fs::write(at("auth.json"), "{}").unwrap();
    fs::write(at("containers.conf"), "[engine]\nevents_logger = \"file\"\ncgroup_manager = \"cgroupfs\"\n").unwrap();
    let pull = |image: &str| {
        let mut command = Command::new(&podman.0);
        let stores = [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")];
        for (flag, name) in stores {
            command.arg(flag).arg(at(name));
        }
        command.args(["--storage-driver", "vfs", "pull", "--quiet", "--signature-policy", &at("policy.json"), image]);
        command.env("CONTAINERS_CONF", at("containers.conf")).env("REGISTRY_AUTH_FILE", at("auth.json"));
        command.env("CONTAINERS_REGISTRIES_CONF", at("90-flotilla-mirror.conf"));
        command
    };
    let endpoint = fleet.flotilla.endpoint().to_owned();
    // Which rule stands in for whom the node itself says.
    fleet.write("podman", folder.path(), &[&endpoint], &[]);
    run(&mut pull("docker.io/library/bb:latest"));
    let repositories = fleet.flotilla.run(&["repository", "list"]);
    assert!(repositories.contains("docker-hub/library/bb"), "{repositories}");
    // Without a node to ask, and with one that is down before it.
    let given = ["--registry", "docker.io=docker-hub", "--fail-closed"];
    fleet.write("podman", folder.path(), &[&dead(), &endpoint], &given);
    fleet.hub.put("library/second", "latest", &Image::oci(723, &[1000]));
    run(&mut pull("docker.io/library/second:latest"));
    assert!(fleet.flotilla.run(&["repository", "list"]).contains("docker-hub/library/second"));
    fleet.flotilla.kill();
    assert!(!pull("docker.io/library/bb:latest").output().unwrap().status.success(), "nobody else is asked");
}

#[test]
fn the_check_says_what_is_missing_and_what_arrives() {
    let fleet = Fleet::start();
    let folder = TempDir::new().unwrap();
    let (config, certs) = (folder.path().join("config.toml"), folder.path().join("certs.d"));
    let check = |more: &[&str]| {
        let config = config.display().to_string();
        let line = [&["mirror", "check", "--containerd-config", &config, "--image", "bb"], more].concat();
        let output = fleet.flotilla.command(&line).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    fs::write(&config, "version = 2\n").unwrap();
    let (code, said) = check(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("FAILED") && said.contains("config_path"), "{said}");
    let plugin = "plugins.\"io.containerd.grpc.v1.cri\".registry";
    fs::write(&config, format!("version = 2\n[{plugin}]\nconfig_path = \"{}\"\n", certs.display())).unwrap();
    let (code, said) = check(&[]);
    assert!(code == Some(1) && said.contains("_default/hosts.toml"), "{said}");
    let endpoint = fleet.flotilla.endpoint().to_owned();
    fleet.write("containerd", &certs, &[&endpoint], &[]);
    let (code, said) = check(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(fleet.image.digest()) && said.contains("request "), "{said}");
    let (code, said) = check(&["--endpoint", &dead()]);
    assert!(code == Some(1) && said.contains("is not among containerd's hosts"), "{said}");
    fleet.flotilla.run(&["rule", "set", "docker-hub", "--mirror=false"]);
    let (code, said) = check(&[]);
    assert!(code == Some(1) && said.contains("no cache rule of this registry mirrors"), "{said}");
}

/// The shell block after the mark `<!-- ci: NAME -->` of docs/clients.md.
fn block(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/clients.md");
    let text = fs::read_to_string(&file).unwrap();
    let mark = format!("<!-- ci: {name} -->\n```sh\n");
    let start = text.find(&mark).unwrap_or_else(|| panic!("docs/clients.md has no block '{name}'")) + mark.len();
    let len = text[start..].find("\n```").expect("the block ends");
    text[start..start + len].to_owned()
}

/// Typed as it is written, with an /etc of its own in a mount namespace.
#[test]
fn the_blocks_of_the_guide_work_as_they_are_written() {
    let Some(containerd) = required(Containerd::start(), "containerd, as root") else { return };
    let Some(podman) = required(find("podman"), "podman") else { return };
    let Some(unshare) = required(find("unshare"), "unshare") else { return };
    let free = [5002, 5003].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).ok());
    if required(free.iter().all(Option::is_some).then_some(()), "the free ports 5002 and 5003").is_none() {
        return;
    }
    drop(free);
    let hub = Upstream::start();
    hub.put(
        "library/nginx",
        "latest",
        &Image::index(vec![Image::oci(724, &[9000]), Image::oci_for("arm64", 725, &[9])]),
    );
    let home = TempDir::new().unwrap();
    let at = |name: &str| home.path().join(name).display().to_string();
    for name in ["bin", "work", "etc"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    let program = |name: &str, line: String| {
        use std::os::unix::fs::PermissionsExt;
        let file = home.path().join("bin").join(name);
        fs::write(&file, format!("#!/bin/sh\n{line}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    };
    fs::write(at("auth.json"), "{}").unwrap();
    // A newcomer's world: Docker Hub (the scripted one), a running containerd, podman with a store of its own.
    let upstream = format!("{}={}", crate::common::DOCKER_HUB, hub.url());
    program(
        "flotilla",
        format!(
            "if [ \"$1\" = dev ]; then shift; set -- dev --upstream {upstream} \"$@\"; fi\nexec {} \"$@\"",
            crate::FLOTILLA
        ),
    );
    let ctr = containerd.command(&["images", "pull", "--snapshotter", "native"]);
    let ctr: Vec<_> =
        [ctr.get_program()].into_iter().chain(ctr.get_args()).map(std::ffi::OsStr::to_string_lossy).collect();
    program("ctr", format!("shift 2\nexec {} \"$@\"", ctr.join(" ")));
    let store = format!("--root {} --runroot {} --tmpdir {} --storage-driver vfs", at("root"), at("run"), at("tmp"));
    program("podman", format!("exec {} {store} \"$@\"", podman.0.display()));
    let blocks = ["node", "containerd", "docker", "podman", "k3s", "robot"].map(block).join("\n");
    let after =
        "cat /etc/containerd/certs.d/_default/hosts.toml /etc/docker/daemon.json /etc/rancher/k3s/registries.yaml";
    let script = format!(
        "set -euo pipefail\ntrap 'kill $(jobs -p) && wait' EXIT\ncp -a /etc/. {etc}\nmkdir -p {etc}/containers\n\
         echo '{policy}' > {etc}/containers/policy.json\nmount --bind {etc} /etc\n{blocks}\n{after}\n{}\n\
         find /etc -name '*.before-flotilla' -o -name hosts.toml -o -name registries.yaml -o -name '90-flotilla*'\n",
        block("remove"),
        etc = at("etc"),
        policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#,
    );
    let path = std::env::join_paths(
        [home.path().join("bin")].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut command = Command::new(&unshare.0);
    command.args(["-m", "--propagation", "private", "bash", "-c", &script]).current_dir(at("work"));
    command.env("PATH", path.unwrap()).env("HOME", home.path());
    command.env("REGISTRY_AUTH_FILE", at("auth.json"));
    for name in ["AWS_PROFILE", "AWS_ENDPOINT_URL", "FLOTILLA_ENDPOINT", "CONTAINERS_REGISTRIES_CONF"] {
        command.env_remove(name);
    }
    let said = run(&mut command);
    for word in [
        "http://127.0.0.1:5002",
        "registry-mirrors",
        "endpoint:",
        "ok ",
        "is served",
        "Login Succeeded",
        "authorization = \"Basic ",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let left =
        said.lines().skip_while(|line| !line.starts_with("removed ")).filter(|line| line.starts_with("/etc")).count();
    assert_eq!(left, 0, "nothing is left behind: {said}");
    let listed = containerd.run(&["images", "list"]);
    assert!(listed.contains("docker.io/library/nginx:latest"), "{listed}");
}
