//! Upstreams that lead back: to the node itself, by way of something in front of it, or of another cache.

use std::{
    fs, io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use cluster_tests::{Flotilla, aws::Aws, process::Builder};
use tempfile::TempDir;

use crate::common::{client, create_rule, manifest_path};

/// Well below the time after which a request that waits for itself is given up.
const AT_ONCE: Duration = Duration::from_secs(5);

/// Stands in front of a node that is started later, as a balancer does. Its thread ends with the process.
struct Balancer {
    address: SocketAddr,
    to: Arc<Mutex<Option<SocketAddr>>>,
}

impl Balancer {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let to = Arc::<Mutex<Option<SocketAddr>>>::default();
        let target = to.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Some(to)) = (client, *target.lock().unwrap()) else { continue };
                let Ok(server) = TcpStream::connect(to) else { continue };
                let back = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || pass(client, server));
                thread::spawn(move || pass(back.0, back.1));
            }
        });
        Self { address, to }
    }

    fn lead_to(&self, flotilla: &Flotilla) {
        *self.to.lock().unwrap() = Some(flotilla.client().address());
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// A node that takes every name from `quay.io`, which is at `url`.
fn node(url: &str) -> Flotilla {
    let flotilla = Builder::new(crate::FLOTILLA).upstream_url("quay.io", url).arg("--no-default-rules").start();
    create_rule(&Aws::root(&flotilla), "ROOT", "quay.io");
    flotilla
}

/// Requests that left for the upstream.
fn sent(flotilla: &Flotilla) -> f64 {
    flotilla.metrics().sum("flotilla_upstream_requests_total", &[]).unwrap_or_default()
}

#[track_caller]
fn ends_as_a_circle(flotilla: &Flotilla, path: &str) {
    let begun = Instant::now();
    let answer = client(flotilla).get(path);
    assert_eq!(answer.status, 508, "{}", answer.text());
    assert!(answer.text().contains("leads back"), "{}", answer.text());
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

#[test]
fn caches_with_rules_for_each_other_answer_at_once_and_ask_each_other_once() {
    let balancers: Vec<_> = (0..3).map(|_| Balancer::start()).collect();
    // The first leads to the second, that to the third, and the third to the first.
    let nodes: Vec<_> = (0..3).map(|nth| node(&balancers[(nth + 1) % 3].url())).collect();
    for (balancer, node) in balancers.iter().zip(&nodes) {
        balancer.lead_to(node);
    }
    ends_as_a_circle(&nodes[0], &manifest_path("team/app", "v1"));
    let digest = format!("sha256:{}", "0".repeat(64));
    ends_as_a_circle(&nodes[0], &manifest_path("team/app", &digest));
    ends_as_a_circle(&nodes[0], &format!("/v2/team/app/blobs/{digest}"));
    for node in &nodes {
        // Each pull costs a challenge, a token and the question itself, the first time.
        assert!(sent(node) <= 9.0, "{}", sent(node));
    }
    let refused = nodes[0].metrics().sum("flotilla_http_refused_total", &["reason=\"loop\""]);
    assert_eq!(refused, Some(3.0), "one for each pull, at the node that began");
}

#[test]
fn a_rule_that_leads_to_the_node_itself_is_refused() {
    let balancer = Balancer::start();
    let behind = node(&balancer.url());
    balancer.lead_to(&behind);
    ends_as_a_circle(&behind, &manifest_path("team/app", "v1"));

    // Free a moment ago: the port has to be known before the node is started.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = TempDir::new().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("flotilla.toml"));
    let text = format!(
        "[node]\ndata_dir = \"{}\"\n[http]\nlisten = [\"{address}\"]\ndrain_delay_seconds = 0\n\
         [access.anonymous]\npull = true\n[upstream.hosts.\"quay.io\"]\nbase_url = \"http://{address}\"\n",
        data.display()
    );
    fs::write(&file, text).unwrap();
    let flotilla = Builder::new(crate::FLOTILLA).data(&data).serve(&file).arg("--init").start();
    create_rule(&Aws::root(&flotilla), "ROOT", "quay.io");
    let answer = client(&flotilla).get(&manifest_path("team/app", "v1"));
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert_eq!(flotilla.metrics().sum("flotilla_upstream_blocked_total", &["reason=\"own\""]), Some(1.0));
    assert_eq!(flotilla.metrics().sum("flotilla_http_refused_total", &["reason=\"loop\""]).unwrap_or_default(), 0.0);
    let told = flotilla.log().iter().any(|line| line.contains("it leads back to this node"));
    assert!(told, "the operator is told: {:?}", flotilla.log());
}
