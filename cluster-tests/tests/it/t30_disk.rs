//! A full disk: clients are still served, the partial goes, and a metric says so.

use std::{path::Path, process::Command, time::Duration};

use cluster_tests::{
    Image, Upstream,
    clients::{is_root, required, run},
    upstream::{Fault, On, Times},
    wait_for,
};

use crate::common::{APP, MIB, SOON, before, blob_path, client, pull, whole};

/// A file system of its own, for root.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mounted = is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
                .arg(folder.path())
                .status()
                .unwrap()
                .success();
        required(mounted.then_some(Self(folder)), "the right to mount a tmpfs")
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves this much room over what is used.
    fn shrink_to_leave(&self, spare_bytes: u64) {
        let used = run(Command::new("df").args(["--output=used", "-B1"]).arg(self.path()));
        let used: u64 = used.lines().nth(1).unwrap().trim().parse().unwrap();
        run(Command::new("mount").args(["-o", &format!("remount,size={}", used + spare_bytes)]).arg(self.path()));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[test]
fn a_disk_that_fills_up_during_a_fill_does_not_fail_the_client() {
    let Some(disk) = Tmpfs::mount("12g") else { return };
    let image = Image::oci(360, &[256 * MIB, 1000]);
    let hub = Upstream::start();
    hub.put("library/app", "latest", &image);
    let (layer, small) = (&image.layers()[0], &image.layers()[1]);
    let step = Fault::Trickle { step_bytes: MIB, every: Duration::from_millis(10) };
    hub.fault(On::blob(layer.digest()).by("GET"), Times::Always, step);
    let flotilla = before(&hub).data(&disk.path().join("data")).start();
    let client = client(&flotilla);
    std::thread::scope(|scope| {
        let fetches: Vec<_> = (0..3).map(|_| scope.spawn(|| client.fetch(&blob_path(APP, layer), &[]))).collect();
        wait_for("the fill to be under way", SOON, || hub.blob_bytes_sent(layer.digest()) > 64 * MIB);
        disk.shrink_to_leave(4 * MIB);
        for fetch in fetches {
            whole(&fetch.join().unwrap(), layer);
        }
    });
    let passed = flotilla.metrics().sum("flotilla_passthrough_total", &[]);
    assert!(passed.is_some_and(|blobs| blobs > 0.0), "no metric says so: {passed:?}");
    wait_for("the partial to go", SOON, || {
        let files = cluster_tests::process::files_below(flotilla.folder());
        files.iter().all(|file| file.metadata().map_or(0, |meta| meta.len()) < 32 * MIB)
    });
    let warnings = flotilla.log().iter().filter(|line| line.contains("WARN") || line.contains("\"warn\"")).count();
    assert!((1..=5).contains(&warnings), "one warning says so, not {warnings}");
    // The node lives on.
    whole(&client.fetch(&blob_path(APP, layer), &[]), layer);
    whole(&client.fetch(&blob_path(APP, small), &[]), small);
    assert_eq!(client.get("/readyz").status, 200);
}

#[test]
fn a_disk_that_is_smaller_than_the_reserve_passes_blobs_through() {
    let Some(disk) = Tmpfs::mount("256m") else { return };
    let image = Image::oci(361, &[400 * MIB]);
    let hub = Upstream::start();
    hub.put("library/app", "latest", &image);
    let flotilla = before(&hub).data(&disk.path().join("data")).start();
    let client = client(&flotilla);
    pull(&client, APP, "latest", &image);
    pull(&client, APP, "latest", &image);
    assert_eq!(client.get("/healthz").status, 200);
}
