//! What the README tells a newcomer to type, typed literally.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path, process::Command};

use cluster_tests::{
    Image,
    clients::{Docker, Python, Registry, required, run},
};
use tempfile::TempDir;

use crate::common::{DOCKER_HUB, MIB};

/// The shell block after the mark `<!-- ci: NAME -->`.
fn block(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(&file).unwrap();
    let mark = format!("<!-- ci: {name} -->\n```sh\n");
    let start = text.find(&mark).unwrap_or_else(|| panic!("README.md has no block '{name}'")) + mark.len();
    let len = text[start..].find("\n```").expect("the block ends");
    text[start..start + len].to_owned()
}

/// What the block says, with three things around it that a newcomer has from the world: Docker Hub (here Debian's
/// registry, by a `flotilla` that adds one `--upstream` to `dev`), a running dockerd, and the tools in `PATH`.
#[test]
fn the_main_job_works_as_it_is_written() {
    let Some(docker) = required(Docker::start(), "docker with its dockerd, as root") else { return };
    let Some(python) = required(Python::find(), "the aws command line") else { return };
    let Some(tool) = required(Registry::find(), "docker-registry") else { return };
    // The block names the port.
    let free = TcpListener::bind(("127.0.0.1", 5000)).ok();
    if required(free, "the free port 5000").is_none() {
        return;
    }
    let registry = Registry::start(&tool);
    let image = Image::index(vec![Image::oci(530, &[MIB]), Image::oci_for("arm64", 531, &[MIB])]);
    registry.push("library/nginx", "latest", &image);

    let home = TempDir::new().unwrap();
    let (programs, work) = (home.path().join("bin"), home.path().join("work"));
    fs::create_dir_all(&programs).unwrap();
    fs::create_dir_all(&work).unwrap();
    let wrapper = programs.join("flotilla");
    let upstream = format!("{DOCKER_HUB}={}", registry.url());
    let text = format!(
        "#!/bin/sh\nif [ \"$1\" = dev ]; then shift; set -- dev --upstream {upstream} \"$@\"; fi\nexec {} \"$@\"\n",
        crate::FLOTILLA
    );
    fs::write(&wrapper, text).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();

    // Ended however the block ends, so that the port is free again.
    let script = format!("set -euo pipefail\ntrap 'kill $(jobs -p) && wait' EXIT\n{}\n", block("main-job"));
    let path = std::env::join_paths(
        [programs, python.programs()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).current_dir(&work).env("PATH", path.unwrap()).env("HOME", home.path());
    command.env("DOCKER_HOST", docker.address()).env("DOCKER_CONFIG", docker.config()).env("AWS_PAGER", "");
    for name in [
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_CONFIG_FILE",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_SHARED_CREDENTIALS_FILE",
    ] {
        command.env_remove(name);
    }
    let said = run(&mut command);
    assert!(said.contains("Login Succeeded"), "{said}");
    assert!(said.contains(image.digest()), "{said}");
    let digests = docker.run(&[
        "image",
        "inspect",
        "--format",
        "{{json .RepoDigests}}",
        "127.0.0.1:5000/my-docker-hub/library/nginx:latest",
    ]);
    assert!(digests.contains(image.digest()), "{digests}");
}

/// The commands that the README shows exist.
#[test]
fn the_test_command_of_the_readme_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("README.md")).unwrap();
    assert!(text.contains("./cluster-tests/run"));
    let mode = fs::metadata(root.join("cluster-tests/run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111, "cluster-tests/run is executable");
}
