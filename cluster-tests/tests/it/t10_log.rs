//! The one line of each request: who asked for what, where it came from, and what the upstream said to it.

use std::fs;

use base64::{Engine, prelude::BASE64_STANDARD};
use cluster_tests::{
    Client, Flotilla, Image, Upstream,
    process::Builder,
    upstream::{Fault, On, Times},
    wait_for_some,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    common::{APP, DOCKER_HUB, MIB, SOON, blob_path, client, manifest_path, pull},
    t10_robots::Robot,
};

/// What every line has.
const ALWAYS: [&str; 11] = [
    "timestamp",
    "level",
    "request_id",
    "node",
    "region",
    "client_ip",
    "method",
    "path",
    "status",
    "bytes",
    "duration_ms",
];

/// A node that keeps little, validates always, and lets anonymous callers cause nothing.
fn start(folder: &TempDir, hub: &Upstream) -> Flotilla {
    let (data, config) = (folder.path().join("data"), folder.path().join("flotilla.toml"));
    let text = format!(
        "[node]\ndata_dir = \"{}\"\n[upstream.hosts.\"{DOCKER_HUB}\"]\nbase_url = \"{}\"\n[http]\nlisten = \
         [\"127.0.0.1:0\"]\ndrain_delay_seconds = 0\n[access.anonymous]\npull = true\n[limits.anonymous]\n\
         misses_per_minute = 0\n[storage]\nmax_bytes = \"1 MiB\"\n[pull]\nrevalidate_after_seconds = 0\n[log]\nformat = \
         \"json\"\n",
        data.display(),
        hub.url()
    );
    fs::write(&config, text).unwrap();
    let flotilla = Builder::new(crate::FLOTILLA).data(&data).serve(&config).arg("--init").start();
    flotilla.run(&["rule", "add", "docker-hub", "--mirror"]);
    flotilla
}

fn as_robot(flotilla: &Flotilla, robot: &Robot) -> Client {
    let basic = BASE64_STANDARD.encode(format!("{}:{}", robot.id, robot.secret));
    client(flotilla).with("Authorization", &format!("Basic {basic}"))
}

/// The line of the request that `id` names, and that there is only one.
#[track_caller]
fn line(flotilla: &Flotilla, id: &str) -> Value {
    let lines = || -> Vec<Value> {
        let log = flotilla.log();
        let lines = log.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["request_id"] == id && line["target"] == "flotilla::access").collect()
    };
    let found = wait_for_some("the line of the request", SOON, || Some(lines()).filter(|found| !found.is_empty()));
    assert_eq!(found.len(), 1, "{found:?}");
    for field in ALWAYS {
        assert!(!found[0][field].is_null(), "no {field} in {:#}", found[0]);
    }
    found[0].clone()
}

/// Asks, and returns the request's line beside its status.
#[track_caller]
fn ask(flotilla: &Flotilla, client: &Client, path: &str) -> (u16, Value) {
    let answer = client.get(path);
    (answer.status, line(flotilla, answer.header("x-request-id").unwrap()))
}

#[track_caller]
fn has(line: &Value, fields: &[(&str, &str)]) {
    for (field, wanted) in fields {
        let found = match &line[*field] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        assert_eq!(found, *wanted, "{field} of {line:#}");
    }
}

#[test]
fn each_request_says_who_what_whence_and_what_the_upstream_said() {
    let (hub, folder) = (Upstream::start(), TempDir::new().unwrap());
    let (small, large) = (Image::oci(130, &[1000]), Image::oci(131, &[3 * MIB]));
    hub.put("library/app", "latest", &small);
    hub.put("library/large", "latest", &large);
    let flotilla = start(&folder, &hub);
    let robot = Robot::create(&flotilla, "ci", &["--repositories", "docker-hub/library/*"]);
    let (robot_client, nobody) = (as_robot(&flotilla, &robot), client(&flotilla));
    let arn = "arn:aws:iam::000000000000:user/ci";

    // A mirror's client, first pull.
    let mirrored = "/v2/library/app/manifests/latest";
    let (status, first) = ask(&flotilla, &robot_client, &format!("{mirrored}?ns=docker.io"));
    assert_eq!(status, 200);
    has(&first, &[("principal", arn), ("client_ip", "127.0.0.1"), ("method", "GET"), ("path", mirrored)]);
    has(&first, &[("ns", DOCKER_HUB), ("repository", APP), ("reference", "latest"), ("status", "200")]);
    has(&first, &[("source", "upstream"), ("upstream_status", "200"), ("error", "")]);
    assert_eq!(first["bytes"], small.manifest.len());
    assert!(first["ttfb_ms"].is_u64(), "{first:#}");

    // Its blobs, from upstream and then from here.
    pull(&robot_client, APP, "latest", &small);
    // Its last byte may have arrived a moment before its fill was seen to be done.
    let held = wait_for_some("the layer to be held", SOON, || {
        let (_, line) = ask(&flotilla, &nobody, &blob_path(APP, &small.layers()[0]));
        Some(line).filter(|line| line["source"] == "local")
    });
    has(&held, &[("principal", "anonymous"), ("source", "local"), ("upstream_status", ""), ("ns", "")]);

    // More than is kept.
    let big = "docker-hub/library/large";
    assert_eq!(ask(&flotilla, &robot_client, &manifest_path(big, "latest")).0, 200);
    let (status, passed) = ask(&flotilla, &robot_client, &blob_path(big, &large.layers()[0]));
    assert_eq!(status, 200);
    has(&passed, &[("source", "passthrough"), ("upstream_status", "200"), ("repository", big)]);
    assert_eq!(passed["bytes"], large.layers()[0].len());

    // A held image in spite of its upstream.
    hub.fault(On::manifests(), Times::Always, Fault::status(503));
    let (status, stale) = ask(&flotilla, &robot_client, &manifest_path(APP, "latest"));
    assert_eq!(status, 200);
    has(&stale, &[("source", "local"), ("upstream_status", "503")]);
    hub.heal();

    // Denied, limited, and refused by the upstream.
    let (status, denied) = ask(&flotilla, &robot_client, &manifest_path("docker-hub/team/app", "v1"));
    assert_eq!(status, 403);
    has(&denied, &[("principal", arn), ("repository", "docker-hub/team/app"), ("source", ""), ("upstream_status", "")]);
    assert!(denied["error"].as_str().unwrap().contains("ecr:BatchGetImage"), "{denied:#}");
    let (status, limited) = ask(&flotilla, &nobody, &manifest_path("docker-hub/library/other", "v1"));
    assert_eq!(status, 429);
    has(&limited, &[("principal", "anonymous"), ("repository", "docker-hub/library/other"), ("upstream_status", "")]);
    assert!(!limited["error"].is_null(), "{limited:#}");
    hub.fault(On::manifests(), Times::Always, Fault::status(403));
    let (status, refused) = ask(&flotilla, &robot_client, &manifest_path("docker-hub/library/closed", "v1"));
    assert_eq!(status, 403);
    has(&refused, &[("upstream_status", "403")]);

    // A token is asked for in the query, and a wrong password sent in a header.
    let (status, token) = ask(&flotilla, &robot_client, &format!("/v2/token?service=x&scope=repository:{APP}:pull"));
    assert_eq!(status, 200);
    has(&token, &[("principal", arn), ("path", "/v2/token")]);
    let wrong = BASE64_STANDARD.encode(format!("{}:a-wrong-password", robot.id));
    let wrong = nobody.with("Authorization", &format!("Basic {wrong}"));
    assert_eq!(ask(&flotilla, &wrong, "/v2/").0, 401);
    let log = flotilla.log().join("\n");
    let basic = BASE64_STANDARD.encode(format!("{}:{}", robot.id, robot.secret));
    for secret in [robot.secret.as_str(), &basic, "a-wrong-password", "Basic ", "scope=", "ns=docker.io"] {
        assert!(!log.contains(secret), "the log has '{secret}'");
    }
}
