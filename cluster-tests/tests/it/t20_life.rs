//! Starting, stopping, and starting again on what was left.

use std::{fs, os::unix::process::ExitStatusExt, process::Command, time::Duration};

use cluster_tests::{
    Image,
    aws::Aws,
    clients::required,
    process::Builder,
    upstream::{Fault, On, Times},
    wait_for,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::json;

use crate::common::{APP, MIB, SOON, blob_path, client, manifest_path, pull, whole, with_image};

#[test]
fn a_second_start_finds_everything_again() {
    let image = Image::oci(200, &[MIB]);
    let (mut hub, mut flotilla) = with_image(&image);
    let aws = Aws::root(&flotilla);
    pull(&client(&flotilla), APP, "latest", &image);
    aws.ecr("CreateRepository", &json!({"repositoryName": "mine"}));
    aws.ecr("DeletePullThroughCacheRule", &json!({"ecrRepositoryPrefix": "quay"}));
    assert!(flotilla.terminate().success());
    hub.off();
    flotilla.start_again();
    pull(&client(&flotilla), APP, "latest", &image);
    let again = Aws::root(&flotilla);
    assert_eq!(again.access_key_id, aws.access_key_id, "the keys are the same");
    again.ecr("DescribeRepositories", &json!({"repositoryNames": ["mine", APP]}));
    let rules = again.ecr("DescribePullThroughCacheRules", &json!({}));
    let quay =
        rules["pullThroughCacheRules"].as_array().unwrap().iter().any(|rule| rule["ecrRepositoryPrefix"] == "quay");
    assert!(!quay, "a default rule that was deleted stays deleted");
}

#[test]
fn the_data_folder_tells_scripts_what_they_need() {
    let (_hub, flotilla) = with_image(&Image::oci(201, &[1]));
    let read = |name: &str| fs::read_to_string(flotilla.folder().join(name)).unwrap();
    assert_eq!(read("endpoint").trim(), flotilla.endpoint());
    assert_eq!(read("n1/pid").trim(), flotilla.pid().to_string());
    assert!(read("credentials").starts_with("[default]"));
    let ready = flotilla.log().iter().filter(|line| **line == format!("ready {}", flotilla.endpoint())).count();
    assert_eq!(ready, 1);
}

#[test]
fn two_servers_do_not_share_a_folder() {
    let (_hub, flotilla) = with_image(&Image::oci(202, &[1]));
    let mut second = flotilla.command(&["dev", "--port", "0", "--data"]);
    let output = second.arg(flotilla.folder()).output().unwrap();
    assert!(!output.status.success(), "a second server started on the same folder");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&flotilla.folder().display().to_string()), "it does not say which folder: {said}");
    assert_eq!(client(&flotilla).get("/healthz").status, 200);
}

#[test]
fn a_busy_port_is_named_and_the_next_one_offered() {
    let (_hub, flotilla) = with_image(&Image::oci(203, &[1]));
    let port = flotilla.client().address().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut second = flotilla.command(&["dev", "--port", &port, "--data"]);
    let output = second.arg(folder.path().join("data")).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&port) && said.contains("--port"), "{said}");
}

#[test]
fn metrics_are_what_a_scraper_takes() {
    let image = Image::oci(210, &[1000]);
    let (_hub, flotilla) = with_image(&image);
    pull(&client(&flotilla), APP, "latest", &image);
    let answer = flotilla.client().get("/metrics");
    assert!(
        answer
            .header("content-type")
            .is_some_and(|kind| kind.contains("openmetrics-text") || kind.contains("text/plain"))
    );
    let text = answer.text();
    let mut series: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, _)| name)
        .collect();
    let all = series.len();
    series.sort_unstable();
    let twice: Vec<_> = series.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(twice.is_empty(), "of {all} series these come twice: {twice:?}");
    for part in ["sha256:", "latest", "library/app"] {
        assert!(!text.contains(part), "labels are bounded: {part}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn health_readiness_and_metrics_answer() {
    let image = Image::oci(204, &[1000]);
    let (mut hub, flotilla) = with_image(&image);
    pull(&client(&flotilla), APP, "latest", &image);
    wait_for("the fills to end", SOON, || flotilla.metrics().sum("flotilla_fills_in_flight", &[]) == Some(0.0));
    hub.off();
    assert_eq!(flotilla.client().get("/healthz").status, 200);
    assert_eq!(flotilla.client().get("/readyz").status, 200, "readiness does not hang on an upstream");
    pull(&client(&flotilla), APP, "latest", &image);
    let metrics = flotilla.metrics();
    for (name, labels) in [
        ("flotilla_pulls_total", vec!["result=\"miss\""]),
        ("flotilla_pulls_total", vec!["kind=\"blob\"", "result=\"hit\""]),
        ("flotilla_pulls_total", vec!["kind=\"manifest\"", "result=\"hit\""]),
        ("flotilla_pull_bytes_total", vec!["source=\"local\""]),
        ("flotilla_upstream_requests_total", vec!["code=\"200\""]),
        ("flotilla_upstream_bytes_total", vec![]),
        ("flotilla_storage_bytes", vec![]),
        ("flotilla_storage_free_bytes", vec![]),
        ("flotilla_pull_ttfb_seconds_count", vec![]),
    ] {
        assert!(metrics.sum(name, &labels).is_some_and(|value| value > 0.0), "{name} {labels:?}");
    }
}

#[test]
fn each_request_is_one_line_of_the_log() {
    let image = Image::oci(205, &[1000]);
    let (_hub, flotilla) = with_image(&image);
    let answer = client(&flotilla).get(&manifest_path(APP, "latest"));
    let id = answer.header("x-request-id").expect("every reply carries a request id").to_owned();
    let lines = || flotilla.log().iter().filter(|line| line.contains(&id)).count();
    wait_for("the line of the request", SOON, || lines() == 1);
    let log = flotilla.log();
    let line = log.iter().find(|line| line.contains(&id)).unwrap();
    for part in [APP, "GET", "200", "latest"] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
}

#[test]
fn a_drain_lets_bodies_end_and_takes_no_new_ones() {
    let image = Image::oci(206, &[4 * MIB]);
    let (hub, mut flotilla) = with_image(&image);
    let layer = &image.layers()[0];
    let step = Fault::Trickle { step_bytes: 128 << 10, every: Duration::from_millis(40) };
    hub.fault(On::blob(layer.digest()).by("GET"), Times::Always, step);
    let client = client(&flotilla);
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| client.fetch(&blob_path(APP, layer), &[]));
        wait_for("the body to be under way", SOON, || hub.blob_bytes_sent(layer.digest()) > MIB);
        flotilla.signal(Signal::TERM);
        wait_for("the port to close", SOON, || client.connect().is_err());
        whole(&pull.join().unwrap(), layer);
    });
    assert!(flotilla.ended().success());
}

#[test]
fn an_interrupt_at_rest_ends_it_at_once() {
    let image = Image::oci(207, &[1000]);
    let (_hub, mut flotilla) = with_image(&image);
    pull(&client(&flotilla), APP, "latest", &image);
    // A client that keeps its connection open does not hold it up.
    let _idle = flotilla.client().connect().unwrap();
    let start = std::time::Instant::now();
    flotilla.signal(Signal::INT);
    assert!(flotilla.ended().success());
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn a_frozen_server_goes_on_where_it_was() {
    let image = Image::oci(208, &[8 * MIB]);
    let (hub, flotilla) = with_image(&image);
    let layer = &image.layers()[0];
    let step = Fault::Trickle { step_bytes: 256 << 10, every: Duration::from_millis(20) };
    hub.fault(On::blob(layer.digest()).by("GET"), Times::Always, step);
    let client = client(&flotilla);
    std::thread::scope(|scope| {
        let pull = scope.spawn(|| client.fetch(&blob_path(APP, layer), &[]));
        wait_for("the body to be under way", SOON, || hub.blob_bytes_sent(layer.digest()) > MIB);
        flotilla.freeze();
        std::thread::sleep(Duration::from_millis(500));
        flotilla.thaw();
        whole(&pull.join().unwrap(), layer);
    });
}

#[test]
fn a_bad_configuration_is_named_before_any_port_is_bound() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flotilla.toml");
    let cases = [
        ("no_such_key = 1\n", "no_such_key"),
        ("[storage]\nmax_bytes = \"a lot\"\n", "max_bytes"),
        ("[pull\n", "flotilla.toml"),
    ];
    for (text, reason) in cases {
        fs::write(&file, text).unwrap();
        for arguments in [vec!["serve", "--config"], vec!["config", "check"]] {
            let mut command = Command::new(crate::FLOTILLA);
            let output = command.args(&arguments).arg(&file).output().unwrap();
            assert_eq!(output.status.code(), Some(64), "{arguments:?} {text}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("flotilla.toml") && said.contains(reason), "{said}");
        }
    }
    let missing = Command::new(crate::FLOTILLA).args(["serve", "--config", "/nowhere.toml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere.toml"));
}

#[test]
fn the_default_configuration_is_a_good_one() {
    let text = Command::new(crate::FLOTILLA).args(["config", "default"]).output().unwrap();
    assert!(text.status.success());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("flotilla.toml");
    fs::write(&file, text.stdout).unwrap();
    let check = Command::new(crate::FLOTILLA).args(["config", "check"]).arg(&file).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}

#[test]
fn an_upstream_argument_that_is_none_is_refused() {
    for (bad, named) in [
        ("registry-1.docker.io", "registry-1.docker.io"),
        ("=http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("a.example=ftp://127.0.0.1", "ftp://127.0.0.1"),
        ("a.example=http://", "a.example=http://"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(crate::FLOTILLA);
        command.args(["dev", "--port", "0", "--upstream", bad, "--data"]).arg(folder.path().join("data"));
        let output = command.stdin(std::process::Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{bad}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(named), "it does not say what is wrong with {bad}: {said}");
        assert!(!folder.path().join("data/n1/raft").exists(), "a cluster was founded in spite of {bad}");
    }
}

#[test]
fn dev_begins_where_there_is_no_folder_yet() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("not/there/yet");
    let flotilla = Builder::new(crate::FLOTILLA).data(&deep).start();
    assert!(deep.join("n1").is_dir());
    assert_eq!(flotilla.client().get("/readyz").status, 200);
}

/// A crash must not write what is sealed on disk into a file, in the open.
#[test]
fn a_crash_leaves_no_core_dump() {
    let (_hub, mut flotilla) = with_image(&Image::oci(203, &[1]));
    let ended_by_abort = |pid: u32| {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
        let unlimited = Rlimit { current: None, maximum: None };
        prlimit(Some(pid), Resource::Core, unlimited).unwrap();
        kill_process(pid, Signal::ABORT).unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    let mut other = Command::new("sleep").arg("60").current_dir(&folder).spawn().unwrap();
    ended_by_abort(other.id());
    let dumps = other.wait().unwrap().core_dumped().then_some(());
    let Some(()) = required(dumps, "a kernel that writes core dumps into the working folder") else { return };
    ended_by_abort(flotilla.pid());
    let status = flotilla.ended();
    assert!(status.signal() == Some(Signal::ABORT.as_raw()) && !status.core_dumped(), "{status:?}");
}
