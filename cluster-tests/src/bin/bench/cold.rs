use std::{collections::BTreeMap, path::Path, process::Command};

use cluster_tests::{Client, clients::Registry};

use crate::{
    Effort, load,
    servers::{FLOTILLA, REGISTRY, Servers, in_front_of},
    table::{Bound, Row, Table, median},
};

const STRAIGHT: &str = "straight";

/// The blob through a server that has never seen it, against the same blob straight from the upstream. Each round begins
/// with empty folders, so that the upstream needs to hold one blob only; its own copy is in the page cache for all.
pub fn pulls(servers: &Servers, effort: Effort, flotilla: &Path, table: &mut Table) {
    let (Some(tool), Some(upstream)) = (Registry::find(), servers.registry()) else {
        table.note("cold pulls: not measured, docker-registry is not installed".to_owned());
        return;
    };
    let digest = servers.image.layers()[0].digest();
    let (mut times, mut firsts) = (BTreeMap::<_, Vec<f64>>::new(), BTreeMap::<_, Vec<f64>>::new());
    let mut measure = |name: &'static str, url: &str, prefix: &str| {
        // Without it docker-registry denies that it has OCI manifests.
        let client = Client::new(url).with("Accept", cluster_tests::image::ACCEPT_ALL);
        // As a client does: first the manifest, which is not what is measured here.
        assert_eq!(client.get(&format!("/v2/{prefix}bench/image/manifests/v1")).status, 200, "{name}");
        let path = format!("/v2/{prefix}bench/image/blobs/{digest}");
        let one = load::download(client.address(), &path, &mut load::buffer()).expect("a whole download");
        times.entry(name).or_default().push(one.took.as_secs_f64());
        firsts.entry(name).or_default().push(one.first_byte.as_secs_f64() * 1000.0);
    };
    for _ in 0..effort.rounds {
        // What the round before wrote must not be written back during this one.
        let _ = Command::new("sync").status();
        measure(STRAIGHT, &upstream.url(), "");
        let fresh = in_front_of(flotilla, &upstream.url());
        measure(FLOTILLA, fresh.endpoint(), "docker-hub/");
        drop(fresh);
        let _ = Command::new("sync").status();
        let proxy = Registry::proxy_of(&tool, &upstream.url());
        measure(REGISTRY, &proxy.url(), "");
    }
    let mut row = Row::new("cold pull, 1 client".to_owned(), "s");
    for (name, times) in &times {
        row.figure(name, median(times), 2, format!("first byte {:.1} ms", median(&firsts[name])));
    }
    row.hold(FLOTILLA, STRAIGHT, Bound::Most(1.15));
    row.compare(REGISTRY, STRAIGHT);
    table.add(row);
    let mut row = Row::new("first byte of a cold pull".to_owned(), "ms");
    for (name, firsts) in &firsts {
        row.figure(name, median(firsts), 1, String::new());
    }
    row.hold(FLOTILLA, STRAIGHT, Bound::MostPlus(5.0));
    table.add(row);
}
