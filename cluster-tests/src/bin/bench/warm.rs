use std::{collections::BTreeMap, time::Duration};

use crate::{
    Effort, load,
    machine::cpu_seconds,
    servers::{FLOTILLA, NGINX, REGISTRY, Servers},
    table::{Bound, Row, Table, median},
};

/// Connections of the manifest load.
const CONNECTIONS: usize = 64;

/// The blob, held, by `clients` at once.
pub fn blobs(servers: &Servers, effort: Effort, clients: usize, table: &mut Table) {
    let gib = (effort.blob_bytes * clients as u64) as f64 / f64::from(1 << 30);
    let (mut speeds, mut costs) = (BTreeMap::<_, Vec<f64>>::new(), BTreeMap::<_, Vec<f64>>::new());
    for _ in 0..effort.rounds {
        for target in servers.targets() {
            let before = cpu_seconds(target.pid);
            let took = load::downloads(target.address, &target.blob_path, clients);
            costs.entry(target.name).or_default().push((cpu_seconds(target.pid) - before) / gib);
            speeds.entry(target.name).or_default().push(gib * 1.073_741_824 / took.as_secs_f64());
        }
    }
    let mut row = Row::new(format!("warm blob, {clients} client{}", if clients == 1 { "" } else { "s" }), "GB/s");
    for (name, speeds) in &speeds {
        row.figure(name, median(speeds), 2, format!("{:.2} CPU s/GiB", median(&costs[name])));
    }
    row.hold(FLOTILLA, REGISTRY, Bound::Least(1.3));
    row.hold(FLOTILLA, NGINX, Bound::Least(0.9));
    table.add(row);
}

/// The manifest by its tag.
pub fn manifests(servers: &Servers, effort: Effort, method: &'static str, table: &mut Table) {
    let (mut rates, mut tails) = (BTreeMap::<_, Vec<f64>>::new(), BTreeMap::<_, Vec<f64>>::new());
    for _ in 0..effort.rounds {
        for target in servers.targets() {
            let duration = Duration::from_secs(effort.manifest_seconds);
            let rate = load::requests(target.address, method, &target.manifest_path, None, CONNECTIONS, duration);
            rates.entry(target.name).or_default().push(rate.per_second);
            tails.entry(target.name).or_default().push(rate.p99.as_secs_f64() * 1000.0);
        }
    }
    let mut row = Row::new(format!("manifest {method} by tag, {CONNECTIONS} connections"), "requests/s");
    for (name, rates) in &rates {
        row.figure(name, median(rates), 0, format!("p99 {:.1} ms", median(&tails[name])));
    }
    row.hold(FLOTILLA, REGISTRY, Bound::Least(10.0));
    row.hold(FLOTILLA, NGINX, Bound::Least(0.3));
    table.add(row);
}
