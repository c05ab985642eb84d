//! Memory grows with streams up to a bound, never with the size of what they carry (design, invariant 12).
#![expect(clippy::print_stdout, reason = "a figure that passed is worth knowing, too")]

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use cluster_tests::{
    Flotilla, Image, Upstream,
    upstream::{Fault, On, Times},
    wait_for,
};

use crate::common::{APP, MIB, before, blob_path, client, whole};

const BOUND: u64 = 200 * MIB;
const GIB: u64 = 1 << 30;

/// The largest anonymous memory of the server while `work` runs, seen every few milliseconds.
fn peak(flotilla: &Flotilla, work: impl FnOnce()) -> u64 {
    /// Set when it goes, so that a test that fails does not wait for its own watcher.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (peak, done) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(flotilla.memory().anonymous, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let _done = Done(&done);
        work();
    });
    let peak = peak.into_inner();
    println!("peak of anonymous memory: {} MiB", peak / MIB);
    peak
}

/// Four blobs shared by 32 clients: 32 streams of 1 GiB at full speed, of which 28 follow fills of others. What 32
/// different fills need is the next test; both at once would only cost 32 GiB of disk.
#[test]
fn thirty_two_clients_of_cold_gibibytes_stay_within_200_mib() {
    let image = Image::oci(350, &[GIB; 4]);
    let hub = Upstream::start();
    hub.put("library/app", "latest", &image);
    let flotilla = before(&hub).start();
    let client = client(&flotilla);
    let peak = peak(&flotilla, || {
        std::thread::scope(|scope| {
            for i in 0..32 {
                let (client, layer) = (&client, &image.layers()[i % 4]);
                scope.spawn(move || {
                    let path = blob_path(APP, layer);
                    if i < 4 {
                        whole(&client.fetch(&path, &[]), layer);
                    } else {
                        // Counted and not hashed: 32 hashes would leave the server no processor.
                        assert_eq!(drained(client, &path), layer.len());
                    }
                });
            }
        });
    });
    assert!(peak < BOUND, "{} MiB", peak / MIB);
    for layer in image.layers() {
        assert_eq!(hub.blob_gets(layer.digest()), 1);
    }
}

fn drained(client: &cluster_tests::Client, path: &str) -> u64 {
    let mut connection = client.connect().unwrap();
    assert_eq!(connection.send("GET", path, &[], b"").unwrap().status, 200);
    let (mut buffer, mut received) = (vec![0; 256 << 10], 0);
    loop {
        match connection.read_body(&mut buffer).unwrap() {
            0 => return received,
            n => received += n as u64,
        }
    }
}

/// All of them are under way at the same time, with 64 MiB received and the rest still to come.
#[test]
fn thirty_two_different_fills_at_once_stay_within_200_mib() {
    const RECEIVED: u64 = 64 * MIB;
    // What is received decides what could be kept; longer layers would only take longer to make.
    let image = Image::oci(351, &[2 * RECEIVED; 32]);
    let hub = Upstream::start();
    hub.put("library/app", "latest", &image);
    hub.fault(On::blobs().by("GET"), Times::Always, Fault::Stall { after_bytes: RECEIVED });
    let flotilla = before(&hub).start();
    let client = client(&flotilla);
    let received = AtomicU64::new(0);
    let peak = peak(&flotilla, || {
        std::thread::scope(|scope| {
            for layer in image.layers() {
                let (client, received) = (client.clone().patient(Duration::from_secs(60)), &received);
                scope.spawn(move || {
                    let mut connection = client.connect().unwrap();
                    assert_eq!(connection.send("GET", &blob_path(APP, layer), &[], b"").unwrap().status, 200);
                    let (mut buffer, mut mine) = (vec![0; 256 << 10], 0);
                    // The last piece that came may be held back.
                    while mine < RECEIVED - 2 * MIB {
                        let n = connection.read_body(&mut buffer).unwrap() as u64;
                        assert!(n > 0);
                        mine += n;
                    }
                    received.fetch_add(1, Ordering::Relaxed);
                    wait_for("the others", Duration::from_secs(60), || received.load(Ordering::Relaxed) == 32);
                });
            }
        });
    });
    assert!(peak < BOUND, "{} MiB", peak / MIB);
}
