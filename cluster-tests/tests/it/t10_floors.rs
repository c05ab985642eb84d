//! The floor table of `docs/architecture.md`, held against what Cargo says: Cargo refuses cycles, and only cycles.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::Value;

/// Crate, floor, whether it must stay pure.
const FLOORS: &[(&str, u8, bool)] = &[
    ("flotilla-base", 0, true),
    ("flotilla-oci", 1, true),
    ("flotilla-runtime", 1, false),
    ("flotilla-aws", 1, true),
    ("flotilla-registry", 2, true),
    ("flotilla-state", 3, true),
    ("flotilla-storage", 4, false),
    ("flotilla-upstream", 4, false),
    ("flotilla-consensus", 5, false),
    ("flotilla-transfer", 5, false),
    ("flotilla-service", 6, false),
    ("flotilla-api", 8, false),
    ("flotilla-cli", 8, false),
    ("flotilla", 9, false),
];

/// What reads a clock, a disk or a network; a pure crate has none of it, not even through a dependency of ours.
const EFFECTS: &[&str] = &["tokio", "hyper", "hyper-util", "quinn", "sled", "openraft", "rustix", "tempfile"];

#[test]
fn imports_go_down_and_pure_crates_stay_pure() {
    let floors: BTreeMap<_, _> = FLOORS.iter().map(|&(name, floor, pure)| (name, (floor, pure))).collect();
    let mut seen = 0;
    for (name, dependencies) in packages() {
        if name == "cluster-tests" {
            continue;
        }
        seen += 1;
        let &(floor, pure) = floors.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no floor"));
        for on in &dependencies {
            assert!(!(pure && EFFECTS.contains(&on.as_str())), "{name} is pure, not {on}");
            if let Some(&(below, below_pure)) = floors.get(on.as_str()) {
                assert!(below < floor, "{name} (floor {floor}) imports {on} (floor {below})");
                assert!(!pure || below_pure, "{name} is pure and imports {on}, which is not");
            }
        }
        if name == "flotilla-cli" {
            let server = dependencies.iter().find(|on| floors.get(on.as_str()).is_some_and(|(floor, _)| *floor > 1));
            assert_eq!(server, None, "the command line knows the contract, not the server");
        }
    }
    assert_eq!(seen, FLOORS.len(), "a crate of the table is gone");
}

/// What dials by itself: clippy bans the calls of tokio and std, not clients that make them inside.
const CLIENTS: &[&str] = &["client::legacy", "HttpConnector", "TcpStream::connect", "TcpSocket"];

#[test]
fn only_the_connector_leaves_the_node() {
    let mut files = 0;
    for path in cluster_tests::process::files_below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../node")) {
        let name = path.to_string_lossy().replace('\\', "/");
        let is_test = name.contains("/tests/") || name.ends_with("tests.rs") || name.contains("test_client");
        if !name.ends_with(".rs") || is_test || name.contains("/node/cli/") {
            continue;
        }
        files += 1;
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let found = CLIENTS.iter().find(|client| code.contains(**client));
        assert!(found.is_none() || name.ends_with("/upstream/src/connector.rs"), "{name}: {found:?}");
    }
    assert!(files > 100, "{files}");
}

/// Name and dependencies (without those of tests) of every package of the workspace.
fn packages() -> Vec<(String, Vec<String>)> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version=1", "--no-deps", "--offline"]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let dependencies = dependencies.filter(|dependency| dependency["kind"] != "dev");
            (text(&package["name"]), dependencies.map(|dependency| text(&dependency["name"])).collect())
        })
        .collect()
}
