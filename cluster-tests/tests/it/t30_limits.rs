//! What callers may cause upstream, and that what is held is served all the same. Sources are told apart by what a trusted
//! proxy says, since a test has one address.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use cluster_tests::{
    Client, Flotilla, Image, Upstream,
    aws::Aws,
    process::Builder,
    upstream::{Fault, On, Times},
    wait_for,
};
use serde_json::json;
use tempfile::TempDir;

use crate::common::{APP, DOCKER_HUB, SOON, client, create_rule, manifest_path, pull};

/// A hub, and a server in front of it that believes this machine in `X-Forwarded-For`.
struct Site {
    hub: Upstream,
    flotilla: Flotilla,
    _folder: TempDir,
}

impl Site {
    /// `more` are tables.
    fn new(more: &str) -> Self {
        let (hub, folder) = (Upstream::start(), TempDir::new().unwrap());
        let (data, config): (PathBuf, PathBuf) = (folder.path().join("data"), folder.path().join("flotilla.toml"));
        let text = format!(
            "[node]\ndata_dir = \"{}\"\n[upstream.hosts.\"{DOCKER_HUB}\"]\nbase_url = \"{}\"\n[http]\nlisten = \
             [\"127.0.0.1:0\"]\ndrain_delay_seconds = 0\ntrusted_proxies = [\"127.0.0.0/8\"]\n[access.anonymous]\npull = \
             true\nnetworks = [\"0.0.0.0/0\", \"::/0\"]\n{more}\n",
            data.display(),
            hub.url()
        );
        fs::write(&config, text).unwrap();
        let flotilla = Builder::new(crate::FLOTILLA).data(&data).serve(&config).arg("--init").start();
        create_rule(&Aws::root(&flotilla), "docker-hub", DOCKER_HUB);
        Self { hub, flotilla, _folder: folder }
    }

    /// A caller without credentials who comes from `address`.
    fn anonymous(&self, address: &str) -> Client {
        client(&self.flotilla).with("X-Forwarded-For", address)
    }

    fn root(&self) -> Client {
        let root = Aws::root(&self.flotilla);
        let basic = BASE64_STANDARD.encode(format!("AWS:{}", login_token(&root)));
        client(&self.flotilla).with("Authorization", &format!("Basic {basic}"))
    }

    fn limited(&self, what: &str, who: &str) -> Option<f64> {
        let labels = [format!("what=\"{what}\""), format!("who=\"{who}\"")];
        self.flotilla.metrics().sum("flotilla_limited_total", &[&labels[0], &labels[1]])
    }
}

fn login_token(root: &Aws) -> String {
    let token = root.ecr("GetAuthorizationToken", &json!({}));
    let token = token["authorizationData"][0]["authorizationToken"].as_str().unwrap().to_owned();
    let pair = String::from_utf8(BASE64_STANDARD.decode(token).unwrap()).unwrap();
    pair.strip_prefix("AWS:").unwrap().to_owned()
}

#[test]
fn a_source_that_has_had_its_misses_is_told_when_to_come_again_and_served_what_is_held() {
    let site = Site::new("[limits.anonymous]\nmisses_per_minute = 3");
    let image = Image::oci(350, &[1000]);
    site.hub.put("library/app", "latest", &image);
    let source = site.anonymous("192.0.2.7");
    pull(&source, APP, "latest", &image);
    let refused = site.anonymous("192.0.2.8").get(&manifest_path(APP, "v2"));
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "TOOMANYREQUESTS"), "{}", refused.text());
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert!(refused.json()["errors"][0].get("detail").is_none(), "details are for those who sign in");
    pull(&source, APP, "latest", &image);
    for other in [site.anonymous("192.0.3.7"), site.anonymous("2001:db8::7"), site.root()] {
        assert_eq!(other.get(&manifest_path(APP, "v2")).status, 404, "another source");
    }
    assert_eq!(site.limited("misses", "anonymous"), Some(1.0));
    let told =
        site.flotilla.log().iter().any(|line| line.contains("caller is limited") && line.contains("192.0.2.0/24"));
    assert!(told, "the log names the network");
}

#[test]
fn a_principal_that_has_had_his_share_is_told_so_in_the_words_of_each_api() {
    let site = Site::new("[limits.principal]\nmisses_per_minute = 1\nnew_repositories_per_minute = 1");
    let image = Image::oci(351, &[1000]);
    site.hub.put("library/app", "latest", &image);
    let root = site.root();
    assert_eq!(root.get(&manifest_path(APP, "latest")).status, 200);
    let refused = root.get(&manifest_path(APP, "v2"));
    assert_eq!(refused.status, 429);
    let told = &refused.json()["errors"][0];
    assert_eq!(
        (told["code"].as_str(), told["detail"]["reason"].as_str()),
        (Some("TOOMANYREQUESTS"), Some("limit-misses"))
    );
    assert!(told["detail"]["hint"].as_str().unwrap().contains("[limits]"));
    let refused = root.get(&manifest_path("docker-hub/library/new", "v1")).json();
    assert_eq!(refused["errors"][0]["detail"]["reason"], "limit-new-repositories");
    let aws = Aws::root(&site.flotilla);
    let ids = json!([{"imageTag": "latest"}, {"imageTag": "v2"}]);
    let images = aws.ecr("BatchGetImage", &json!({"repositoryName": APP, "imageIds": ids}));
    assert_eq!(images["images"].as_array().unwrap().len(), 1, "{images}");
    assert_eq!(images["failures"][0]["failureCode"], "UpstreamTooManyRequests", "{images}");
    assert!(site.limited("misses", "principal").is_some_and(|count| count >= 2.0));
    assert_eq!(site.limited("new_repositories", "principal"), Some(1.0));
}

/// The attack: callers from everywhere ask for what upstream is slow to answer, each within its own limit.
#[test]
fn anonymous_misses_that_exhaust_an_upstream_leave_it_to_those_who_signed_in() {
    let site = Site::new("[upstream]\nconcurrency = 4\nhead_timeout_seconds = 60");
    let image = Image::oci(352, &[100_000, 100_000]);
    site.hub.put("library/app", "latest", &image);
    let attacks = 24;
    for n in 0..attacks {
        site.hub.fault(On::manifest(&format!("slow{n}")), Times::Always, Fault::DelayHead(Duration::from_secs(45)));
    }
    let attackers: Vec<Client> =
        (0..attacks).map(|n| site.anonymous(&format!("198.51.{n}.1")).patient(Duration::from_secs(20))).collect();
    std::thread::scope(|scope| {
        for (n, attacker) in attackers.iter().enumerate() {
            // Gives up in its own time; what it has begun goes on.
            scope.spawn(move || attacker.try_request("GET", &manifest_path(APP, &format!("slow{n}")), &[], b""));
        }
        let under_attack =
            || site.hub.requests().iter().filter(|request| request.path.contains("/manifests/slow")).count();
        wait_for("the attack to take the places that it can", SOON, || under_attack() >= 2);
        let start = Instant::now();
        pull(&site.root(), APP, "latest", &image);
        assert!(start.elapsed() < Duration::from_secs(10), "it waited behind the attack: {:?}", start.elapsed());
        assert_eq!(under_attack(), 2, "half of the places");
    });
}

/// The bound, as what the process takes: 10,000 sources, each with something to remember.
#[test]
fn ten_thousand_sources_take_less_than_20_mib() {
    let site = Site::new("[limits.anonymous]\nmisses_per_minute = 1\nnew_repositories_per_minute = 1");
    let misses = |from: u32, to: u32| {
        std::thread::scope(|scope| {
            for part in 0..8 {
                let site = &site;
                scope.spawn(move || {
                    for n in (from..to).filter(|n| n % 8 == part) {
                        let source = site.anonymous(&format!("10.{}.{}.1", n >> 8, n & 255));
                        assert_eq!(source.get(&manifest_path(APP, &format!("none{n}"))).status, 404);
                    }
                });
            }
        });
    };
    misses(0, 1000);
    let before = site.flotilla.memory().anonymous;
    misses(1000, 11_000);
    let entries = site.flotilla.metrics().sum("flotilla_limit_entries", &["who=\"anonymous\""]);
    // A bucket that is full again is forgotten, so slow runs end with fewer.
    assert!(entries.is_some_and(|entries| entries >= 1000.0), "{entries:?}");
    let grown = site.flotilla.memory().anonymous.saturating_sub(before);
    assert!(grown < 20 << 20, "{grown} B for 10,000 sources, absent tags included");
}
