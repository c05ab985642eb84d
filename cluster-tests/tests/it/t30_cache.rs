//! A full cache: what is pulled again and again stays, what is pulled once goes, and what went is not called absent.

use std::{fs, path::PathBuf};

use cluster_tests::{Content, Flotilla, Image, Upstream, aws::Aws, process::Builder, process::files_below, wait_for};

use crate::common::{APP, DOCKER_HUB, MIB, SOON, blob_path, client, create_rule, whole};

const MAX: u64 = 20 * MIB;

/// A hub, and a server before it that keeps 20 MiB and takes pulls a second apart for two.
struct Site {
    hub: Upstream,
    folder: tempfile::TempDir,
}

impl Site {
    fn start() -> (Self, Flotilla) {
        let site = Self { hub: Upstream::start(), folder: tempfile::tempdir().unwrap() };
        let text = format!(
            "[node]\ndata_dir = \"{}\"\n[upstream.hosts.\"{DOCKER_HUB}\"]\nbase_url = \"{}\"\n[http]\nlisten = [\"127.0.0.1:0\"]\ndrain_delay_seconds = 0\n[access.anonymous]\npull = true\n[storage]\nmax_bytes = \"20 MiB\"\nreserve = \"1 MiB\"\nreuse_after_seconds = 1\n",
            site.data().display(),
            site.hub.url()
        );
        let config = site.folder.path().join("flotilla.toml");
        fs::write(&config, text).unwrap();
        let flotilla = Builder::new(crate::FLOTILLA).data(&site.data()).serve(&config).arg("--init").start();
        create_rule(&Aws::root(&flotilla), "docker-hub", DOCKER_HUB);
        (site, flotilla)
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A blob of the hub that no other `seed` has.
    fn blob(&self, seed: u64, len: u64) -> Content {
        let content = Image::oci(seed, &[len]).layers()[0].clone();
        self.hub.put_blob("library/app", &content);
        content
    }

    fn is_here(&self, content: &Content) -> bool {
        let hex = content.digest().trim_start_matches("sha256:");
        self.data().join("blobs/sealed").join(&hex[..2]).join(format!("sha256-{hex}")).exists()
    }

    fn used_bytes(&self) -> u64 {
        let sizes = files_below(&self.data().join("blobs")).into_iter().filter(|file| file.extension().is_none());
        sizes.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }
}

fn metric(flotilla: &Flotilla, name: &str) -> u64 {
    flotilla.metrics().sum(name, &[]).unwrap_or(0.0) as u64
}

#[test]
fn what_is_pulled_twice_survives_a_flood_a_restart_and_all_but_its_like() {
    let (mut site, mut flotilla) = Site::start();
    let often = site.blob(370, 8 * MIB);
    let path = blob_path(APP, &often);
    wait_for("a second use to count", SOON, || {
        whole(&client(&flotilla).fetch(&path, &[]), &often);
        metric(&flotilla, "flotilla_storage_protected_bytes") == often.len()
    });

    // Each once; the first ones that find no room are too early, as nothing goes that has just come.
    let mut seed = 1_000;
    wait_for("a flood to displace itself", SOON, || {
        let once = site.blob(seed, 2 * MIB);
        seed += 1;
        whole(&client(&flotilla).fetch(&blob_path(APP, &once), &[]), &once);
        assert!(site.used_bytes() <= MAX, "{} B", site.used_bytes());
        metric(&flotilla, "flotilla_storage_evicted_blobs_total") >= 3
    });
    assert!(metric(&flotilla, "flotilla_storage_evicted_bytes_total") >= 6 * MIB);
    whole(&client(&flotilla).fetch(&path, &[]), &often);
    assert_eq!(site.hub.blob_gets(often.digest()), 1, "it never left");

    assert!(flotilla.terminate().success());
    flotilla.start_again();
    assert_eq!(metric(&flotilla, "flotilla_storage_protected_bytes"), often.len(), "a restart knows it");

    let newcomer = site.blob(371, 18 * MIB);
    let fetch = |flotilla: &Flotilla| whole(&client(flotilla).fetch(&blob_path(APP, &newcomer), &[]), &newcomer);
    fetch(&flotilla);
    assert!(!site.is_here(&newcomer) && site.is_here(&often), "asked for once");
    wait_for("who comes back to get in", SOON, || {
        fetch(&flotilla);
        site.is_here(&newcomer)
    });
    assert!(!site.is_here(&often) && site.used_bytes() <= MAX);

    // It went, and is still known: by its length, and by where it came from.
    let head = client(&flotilla).head(&path);
    assert_eq!((head.status, head.header("content-length")), (200, Some(often.len().to_string().as_str())));
    whole(&client(&flotilla).fetch(&path, &[]), &often);
    assert_eq!(site.hub.blob_gets(often.digest()), 2);
    let gone = if site.is_here(&often) { &newcomer } else { &often };
    site.hub.off();
    assert_eq!(client(&flotilla).head(&blob_path(APP, gone)).status, 200);
    let status = client(&flotilla).get(&blob_path(APP, gone)).status;
    assert!([502, 503, 504].contains(&status), "unknown is never absent: {status}");
}
