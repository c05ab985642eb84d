//! What the documents say of metrics and reasons is what there is, read both ways.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cluster_tests::{Image, process::files_below};

use crate::common::{APP, client, manifest_path, pull, with_image};

/// Names that dashboards are built on (the requirements call them stable).
const STABLE: [&str; 14] = [
    "flotilla_pulls_total{kind,result}",
    "flotilla_pull_bytes_total{source}",
    "flotilla_pull_ttfb_seconds",
    "flotilla_fills_in_flight",
    "flotilla_fill_duplicates_total",
    "flotilla_upstream_requests_total{upstream,code}",
    "flotilla_upstream_bytes_total{upstream}",
    "flotilla_upstream_ratelimit_remaining{upstream}",
    "flotilla_upstream_circuit_open{upstream}",
    "flotilla_storage_bytes{class}",
    "flotilla_storage_free_bytes",
    "flotilla_blobs_quarantined_total",
    "flotilla_repository_pulls_total{repository}",
    "flotilla_raft_has_leader",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The rows of all tables below the heading that contains `heading`, as cells.
fn rows(file: &str, heading: &str) -> Vec<Vec<String>> {
    let text = read(file);
    let (_, section) = text.split_once(heading).unwrap_or_else(|| panic!("{file} has no '{heading}'"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    section.lines().filter(|line| line.starts_with("| `")).map(cells).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[derive(Debug, PartialEq)]
struct Documented {
    kind: String,
    labels: BTreeSet<String>,
}

/// By the name that series carry.
fn documented() -> BTreeMap<String, Documented> {
    let text = read("docs/metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `flotilla_"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let series = &quoted(cells[0])[0];
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        let labels = labels.map(str::to_owned).collect();
        (name.to_owned(), Documented { kind: cells[1].to_owned(), labels })
    })
    .collect()
}

/// The name of HELP and TYPE lines, which counters have without their ending.
fn family(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
}

/// Names of metrics that the source registers, as families.
fn registered() -> BTreeSet<String> {
    let files = files_below(&root().join("node")).into_iter().filter(|file| file.ends_with("metrics.rs"));
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (before, after) in text.match_indices("\"flotilla_").map(|(at, _)| text.split_at(at)) {
            let name = after[1..].split('"').next().unwrap();
            // Only this form adds the unit to the name.
            let with_unit = before.trim_end().ends_with("register_with_unit(");
            names.insert(if with_unit { format!("{name}_bytes") } else { name.to_owned() });
        }
    }
    names
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let documented: BTreeSet<_> = documented().keys().map(|name| family(name).to_owned()).collect();
    assert_eq!(documented, registered());
}

#[test]
fn the_stable_names_are_there_with_their_labels() {
    let text = read("docs/metrics.md");
    for name in STABLE {
        assert!(text.contains(&format!("| `{name}` |")), "{name}");
    }
}

#[test]
fn a_running_node_shows_what_is_documented() {
    let image = Image::oci(120, &[1000]);
    let (hub, flotilla) = with_image(&image);
    let client = client(&flotilla);
    pull(&client, APP, "latest", &image);
    hub.heal();
    assert_eq!(client.get(&manifest_path(APP, "absent")).status, 404);
    let text = flotilla.client().get("/metrics").text();
    let documented = documented();
    let by_family = |name: &str| documented.iter().find(|(documented, _)| family(documented) == name);
    let helped: BTreeSet<_> = text.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    assert!(helped.len() > 25, "{helped:?}");
    for name in &helped {
        assert!(by_family(name).is_some(), "{name} is not in docs/metrics.md");
    }
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        assert_eq!(by_family(name).map(|(_, metric)| metric.kind.as_str()), Some(kind), "{name}");
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let series = line.rsplit_once(' ').unwrap().0;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|ending| name.strip_suffix(ending));
        let (_, metric) = documented.get_key_value(of_histogram.unwrap_or(name)).unwrap_or_else(|| panic!("{name}"));
        let keys = labels.split("\",").filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
        let keys: BTreeSet<_> = keys.filter(|key| key != "le").collect();
        assert_eq!(keys, metric.labels, "{series}");
    }
}

/// Words that stand right behind one of `openers` in the source, its tests left out.
fn words(file: &Path, openers: &[&str]) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    // An argument may stand on a line of its own.
    let text: String = text.split("#[cfg(test)]").next().unwrap().lines().map(str::trim).collect();
    let after = openers.iter().flat_map(|opener| text.match_indices(opener).map(|(at, _)| &text[at + opener.len()..]));
    after.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[test]
fn every_reason_that_a_registry_client_is_told_is_explained() {
    let openers = [".reason(\"", "reason: \"", "unavailable(\"", "bad_gateway(\"", "why(\"", "=> (\""];
    let told = words(&root().join("node/api/src/oci/error.rs"), &openers);
    assert!(told.len() > 30, "{told:?}");
    let rows = rows("docs/troubleshooting.md", "## What a registry client is told");
    let explained: BTreeSet<_> = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    assert_eq!(told, explained);
}

#[test]
fn every_reason_of_the_wire_is_explained() {
    let source = root().join("node/api/src");
    let files: Vec<_> = files_below(&source.join("http")).into_iter().chain([source.join("door.rs")]).collect();
    let refused: BTreeSet<_> = files.iter().flat_map(|file| words(file, &["refuse(\""])).collect();
    assert!(refused.len() > 8, "{refused:?}");
    let rows = rows("docs/configuration.md", "## Limits on the wire");
    let explained: BTreeSet<_> = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    assert!(refused.is_subset(&explained), "{:?}", refused.difference(&explained));
    for reason in &explained {
        let literal = format!("\"{reason}\"");
        let is_used = files.iter().any(|file| fs::read_to_string(file).unwrap().contains(&literal));
        assert!(is_used, "nothing is refused for '{reason}'");
    }
}

#[test]
fn the_configuration_to_begin_with_is_one() {
    let file = root().join("deploy/flotilla.toml");
    let output = Command::new(crate::FLOTILLA).args(["config", "check"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
