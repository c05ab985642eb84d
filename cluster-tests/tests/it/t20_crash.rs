//! `kill -9` at any moment: what was acknowledged is there, what was not whole is not passed off as whole.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use cluster_tests::{
    Image, Upstream,
    aws::{Aws, AwsError},
    upstream::{Fault, On, Times},
    wait_for,
};
use serde_json::json;

use crate::common::{APP, MIB, SOON, before, blob_path, client, pull, whole, with_image};

#[test]
fn killed_during_a_fill_it_serves_the_right_bytes_after_a_restart() {
    let image = Image::oci(220, &[64 * MIB]);
    let (hub, mut flotilla) = with_image(&image);
    let layer = &image.layers()[0];
    let path = blob_path(APP, layer);
    // What a round receives is not fetched again in the next one, so each has its part of the blob.
    for _ in 0..4 {
        hub.forget_requests();
        let step = Fault::Trickle { step_bytes: 256 << 10, every: Duration::from_millis(4) };
        hub.fault(On::blob(layer.digest()).by("GET"), Times::Once, step);
        let client = client(&flotilla);
        std::thread::scope(|scope| {
            let pull = scope.spawn(|| client.fetch(&path, &[]));
            wait_for("the fill to be under way", SOON, || hub.blob_bytes_sent(layer.digest()) > 8 * MIB);
            flotilla.kill();
            assert!(!pull.join().unwrap().complete);
        });
        hub.heal();
        flotilla.start_again();
    }
    whole(&client(&flotilla).fetch(&path, &[]), layer);
    pull(&client(&flotilla), APP, "latest", &image);
}

/// What was sealed is not fetched again. That the repository has it may have to be proven again (a HEAD): the link follows
/// the last byte, and the kill may come between.
#[test]
fn killed_right_after_a_pull_it_still_holds_the_bytes() {
    let image = Image::oci(221, &[2 * MIB, 1000]);
    let (hub, mut flotilla) = with_image(&image);
    pull(&client(&flotilla), APP, "latest", &image);
    wait_for("the fills to end", SOON, || flotilla.metrics().sum("flotilla_fills_in_flight", &[]) == Some(0.0));
    flotilla.kill();
    hub.forget_requests();
    flotilla.start_again();
    pull(&client(&flotilla), APP, "latest", &image);
    for blob in &image.blobs {
        assert_eq!(hub.blob_bytes_sent(blob.digest()), 0);
    }
}

/// Each round is as short as a start and a few writes, so that two hundred of them fit a test. The kill comes while
/// three writers write, after a number of writes that moves with the round.
#[test]
fn two_hundred_kills_under_writes_lose_nothing_acknowledged() {
    const ROUNDS: u64 = 200;
    let hub = Upstream::start();
    let mut flotilla = before(&hub).arg("--no-default-rules").start();
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..ROUNDS {
        let aws = Aws::root(&flotilla);
        let count = AtomicU64::new(0);
        let written = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|writer| {
                    let (aws, count) = (&aws, &count);
                    scope.spawn(move || {
                        let mut written = Vec::new();
                        for i in 0..1000 {
                            let name = format!("round-{round}/w{writer}-{i}");
                            match aws.try_ecr("CreateRepository", &json!({"repositoryName": name})) {
                                Ok(_) => {
                                    written.push(name);
                                    count.fetch_add(1, Ordering::Relaxed);
                                }
                                Err(AwsError::NoAnswer(_)) => break,
                                Err(refused) => panic!("{name}: {refused}"),
                            }
                        }
                        written
                    })
                })
                .collect();
            wait_for("some writes", SOON, || count.load(Ordering::Relaxed) >= round % 8);
            flotilla.kill();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
        });
        flotilla.start_again();
        // At once, in this round, so that a loss is found where it happened.
        let held = repositories(&Aws::root(&flotilla), &written);
        assert_eq!(held, written.len(), "round {round}: of {} acknowledged writes {held} are there", written.len());
        acknowledged.extend(written);
    }
    assert!(acknowledged.len() as u64 >= ROUNDS * 3, "too few writes to say anything: {}", acknowledged.len());
    assert_eq!(repositories(&Aws::root(&flotilla), &acknowledged), acknowledged.len());
}

/// How many of `names` exist.
fn repositories(aws: &Aws, names: &[String]) -> usize {
    let hundreds = names.chunks(100);
    hundreds
        .map(|names| match aws.try_ecr("DescribeRepositories", &json!({"repositoryNames": names})) {
            Ok(found) => found["repositories"].as_array().unwrap().len(),
            Err(error) => panic!("an acknowledged repository is gone: {error}"),
        })
        .sum()
}
