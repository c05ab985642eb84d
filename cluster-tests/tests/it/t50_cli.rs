//! `flotilla` as a client of its own API: text for people, `--json` for programs, exit codes for scripts.

use cluster_tests::{Flotilla, Image, clients::run};
use serde_json::Value;

use crate::common::{APP, client, pull, with_image};

fn json(flotilla: &Flotilla, arguments: &[&str]) -> Value {
    let text = flotilla.run(&[arguments, &["--json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {text}"))
}

#[test]
fn rules_are_added_listed_checked_and_removed() {
    let image = Image::oci(540, &[1000]);
    let (hub, flotilla) = with_image(&image);
    let added = json(&flotilla, &["rule", "add", "mine", "registry-1.docker.io"]);
    assert_eq!(added["ecrRepositoryPrefix"], "mine");
    assert!(
        flotilla
            .run(&["rule", "list"])
            .lines()
            .any(|line| line.starts_with("mine") && line.contains("registry-1.docker.io"))
    );
    let check = flotilla.run(&["rule", "check", "mine/app:latest"]);
    assert!(check.contains("library/app"), "it says where the name leads: {check}");
    flotilla.run(&["rule", "validate", "mine"]);
    assert!(hub.count("GET", "/v2/") >= 1, "it asked upstream");
    pull(&client(&flotilla), "mine/app", "latest", &image);
    flotilla.run(&["rule", "remove", "mine"]);
    let rules = json(&flotilla, &["rule", "list"]);
    assert!(
        rules["pullThroughCacheRules"].as_array().unwrap().iter().all(|rule| rule["ecrRepositoryPrefix"] != "mine")
    );
    let none = flotilla.command(&["rule", "remove", "mine"]).output().unwrap();
    assert_eq!(none.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&none.stderr).contains("PullThroughCacheRuleNotFoundException"));
}

#[test]
fn templates_repositories_and_images_are_shown_and_removed() {
    let image = Image::oci(541, &[1000]);
    let (_hub, flotilla) = with_image(&image);
    flotilla.run(&["template", "add", "docker-hub", "--mutability", "immutable", "--tag", "team=infra"]);
    assert!(flotilla.run(&["template", "list"]).contains("docker-hub"));
    pull(&client(&flotilla), APP, "latest", &image);
    let repositories = json(&flotilla, &["repository", "list"]);
    assert_eq!(repositories["repositories"][0]["imageTagMutability"], "IMMUTABLE");
    assert!(flotilla.run(&["repository", "list"]).contains(APP));
    let images = json(&flotilla, &["image", "list", APP]);
    assert_eq!(images["imageDetails"][0]["imageDigest"], image.digest());
    assert!(flotilla.run(&["image", "list", APP]).contains("latest"));
    assert!(!flotilla.command(&["repository", "delete", APP]).output().unwrap().status.success(), "it holds an image");
    flotilla.run(&["repository", "delete", APP, "--force"]);
    flotilla.run(&["template", "remove", "docker-hub"]);
    assert_eq!(json(&flotilla, &["repository", "list"])["repositories"], serde_json::json!([]));
}

#[test]
fn a_shell_gets_what_it_needs() {
    let (_hub, flotilla) = with_image(&Image::oci(542, &[1]));
    let folder = flotilla.folder().display().to_string();
    let exports = flotilla.run(&["env", "--data", &folder]);
    let script = format!("set -eu\n{exports}\nenv");
    let environment = run(std::process::Command::new("sh").arg("-c").arg(script).env_remove("AWS_PROFILE"));
    let value = |name: &str| {
        let line = environment.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{name} is not set: {exports}")).to_owned()
    };
    assert_eq!(value("AWS_ENDPOINT_URL"), flotilla.endpoint());
    assert_eq!(value("AWS_SHARED_CREDENTIALS_FILE"), flotilla.credentials().display().to_string());
    assert!(!value("AWS_REGION").is_empty() && value("AWS_REGION") == value("AWS_DEFAULT_REGION"));
    assert!(!exports.contains(&cluster_tests::aws::Aws::root(&flotilla).secret), "exports name a file, not a secret");
    assert!(flotilla.run(&["env", "--data", &folder, "--profile", "cache"]).contains("[profile cache]"));
}

#[test]
fn status_tells_a_person_and_a_program() {
    let (_hub, mut flotilla) = with_image(&Image::oci(543, &[1]));
    let status = json(&flotilla, &["status"]);
    assert!(status.is_object() && !flotilla.run(&["status"]).is_empty());
    flotilla.kill();
    let gone = flotilla.command(&["status"]).output().unwrap();
    assert_eq!(gone.status.code(), Some(3), "nobody answers");
    assert!(String::from_utf8_lossy(&gone.stderr).contains(flotilla.endpoint()));
}

#[test]
fn versions_and_wrong_commands_are_said_plainly() {
    let version = run(std::process::Command::new(crate::FLOTILLA).arg("--version"));
    assert_eq!(version, format!("flotilla {}\n", env!("CARGO_PKG_VERSION")));
    let wrong = std::process::Command::new(crate::FLOTILLA).arg("no-such-command").output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert!(!wrong.stderr.is_empty() && wrong.stdout.is_empty());
}
