//! The ways into a node: listeners of their own, proxies before it, and what changes while it runs.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use cluster_tests::{
    Flotilla,
    clients::{find, required},
    wait_for,
};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    common::SOON,
    t20_serve::{Site, certificate},
};

/// All that is answered to `bytes`, until the end of the connection.
fn say(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    // Refused connections may be gone before all is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) fn status(to: SocketAddr, path: &str, lines: &str) -> u16 {
    let answer = say(to, format!("GET {path} HTTP/1.1\r\nConnection: close\r\n{lines}\r\n").as_bytes());
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

pub(crate) fn address(url: &str) -> SocketAddr {
    url.rsplit_once('/').unwrap().1.parse().unwrap()
}

/// Where the listener of `kind` is, from what the node said.
fn listener(flotilla: &Flotilla, kind: &str) -> SocketAddr {
    let line = flotilla.log().into_iter().find_map(|line| Some(line.strip_prefix(kind)?.trim().to_owned()));
    address(&line.unwrap_or_else(|| panic!("no listener '{kind}'")))
}

fn said(flotilla: &Flotilla, words: &[&str]) -> bool {
    flotilla.log().iter().any(|line| words.iter().all(|word| line.contains(word)))
}

#[test]
fn mirror_and_admin_have_listeners_of_their_own() {
    let site = Site::new("[mirror]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = [\"127.0.0.1:0\"]");
    let flotilla = site.builder().arg("--init").start();
    let (mirror, admin) = (listener(&flotilla, "mirror"), listener(&flotilla, "admin"));
    let registry = address(flotilla.endpoint());
    for (to, path, wanted) in [
        (admin, "/metrics", 200),
        (admin, "/readyz?verbose", 200),
        (admin, "/v2/", 404),
        (mirror, "/v2/", 401),
        (mirror, "/metrics", 404),
        (registry, "/metrics", 404),
        (registry, "/healthz", 200),
    ] {
        assert_eq!(status(to, path, &format!("Host: {to}\r\n")), wanted, "{path} at {to}");
    }
}

#[test]
fn a_hangup_applies_what_is_live_and_names_what_is_not() {
    let site = Site::new("");
    let flotilla = site.builder().arg("--init").start();
    let to = address(flotilla.endpoint());
    let ask = || status(to, "/healthz", "Host: new.example\r\n");
    assert_eq!(ask(), 421);
    site.write("allowed_hosts = [\"new.example\"]\nmax_headers = 50\n[log]\nlevel = \"debug\"");
    flotilla.signal(Signal::HUP);
    wait_for("the new name", SOON, || ask() == 200);
    wait_for("a word on the rest", SOON, || said(&flotilla, &["needs a restart", "http.max_headers"]));
    assert!(!said(&flotilla, &["needs a restart", "allowed_hosts"]));

    site.write("allowed_hosts = [\"a/b\"]");
    flotilla.signal(Signal::HUP);
    wait_for("a refusal", SOON, || said(&flotilla, &["nothing was changed", "allowed_hosts"]));
    site.write("alowed_hosts = []");
    flotilla.signal(Signal::HUP);
    wait_for("a refusal", SOON, || said(&flotilla, &["nothing was changed", "alowed_hosts"]));
    assert_eq!(ask(), 200);
    site.write("");
    flotilla.signal(Signal::HUP);
    wait_for("the name to go", SOON, || ask() == 421);
}

#[test]
fn certificates_are_renewed_under_load() {
    let Some(curl) = required(find("curl"), "curl") else { return };
    let site = Site::new("");
    let folder = TempDir::new().unwrap();
    let (cert, key) = certificate(folder.path());
    site.write(&format!("tls = {{ cert_file = \"{}\", key_file = \"{}\" }}", cert.display(), key.display()));
    let flotilla = site.builder().arg("--init").start();
    let url = format!("{}/healthz", flotilla.endpoint());
    let get = |ca: &Path| {
        let output = Command::new(&curl.0).args(["-sS", "--max-time", "20", "--cacert"]).arg(ca).arg(&url).output();
        output.unwrap().status.success()
    };
    let next = TempDir::new().unwrap();
    let (new_cert, new_key) = certificate(next.path());
    let both = folder.path().join("both.pem");
    fs::write(&both, [fs::read(&cert).unwrap(), fs::read(&new_cert).unwrap()].concat()).unwrap();
    let (stop, failed, done) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let counter = if get(&both) { &done } else { &failed };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        wait_for("load", SOON, || done.load(Ordering::Relaxed) > 4);
        // A certificate without its key is not served.
        fs::copy(&new_cert, &cert).unwrap();
        flotilla.signal(Signal::HUP);
        wait_for("a warning", SOON, || said(&flotilla, &["nothing was changed", "certificate"]));
        assert!(!get(&new_cert));
        fs::copy(&new_key, &key).unwrap();
        flotilla.signal(Signal::HUP);
        wait_for("the new certificate", SOON, || get(&new_cert));
        let until = done.load(Ordering::Relaxed) + 4;
        wait_for("load", SOON, || done.load(Ordering::Relaxed) > until || failed.load(Ordering::Relaxed) > 0);
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(failed.into_inner(), 0, "no connection failed while certificates changed");
}

#[test]
fn proxies_name_the_client_and_others_do_not() {
    let site =
        Site::new("trusted_proxies = [\"127.0.0.0/8\"]\nproxy_protocol = true\n[admin]\nlisten = [\"127.0.0.1:0\"]");
    let flotilla = site.builder().arg("--init").start();
    let to = address(flotilla.endpoint());
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n");
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\x0a\0\0\x01\x01\x02\x03\x04";
    assert!(say(to, &[&header[..], request.as_bytes()].concat()).starts_with("HTTP/1.1 200"));
    wait_for("the log line", SOON, || said(&flotilla, &["client_ip=192.0.2.1", "path=\"/healthz\""]));
    assert_eq!(say(to, request.as_bytes()), "", "no header, no answer");
    assert_eq!(say(to, format!("PROXY TCP4 192.0.2.9 10.0.0.1 1 2\r\n{request}").as_bytes()), "");
    let forwarded = "X-Forwarded-For: 198.51.100.7, 192.0.2.2\r\nX-Forwarded-Host: evil.example\r\n";
    let spoofed = request.replace("Connection", &format!("{forwarded}Connection"));
    assert!(say(to, &[&header[..], spoofed.as_bytes()].concat()).starts_with("HTTP/1.1 200"));
    let admin = listener(&flotilla, "admin");
    let metrics = say(admin, format!("GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").as_bytes());
    assert!(metrics.contains("flotilla_http_refused_total{reason=\"proxy_protocol\"} 2"), "{metrics}");
    for never in ["198.51.100.7", "192.0.2.2", "192.0.2.9", "evil.example"] {
        assert!(!said(&flotilla, &[never]), "{never} is no client");
    }
}

#[test]
fn the_service_manager_is_told_and_shown_life() {
    let site = Site::new("");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let heard = |wanted: &str| loop {
        let mut bytes = [0; 1024];
        let len = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
        let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
        if text.contains(wanted) {
            return text;
        }
        assert!(text.contains("WATCHDOG=1"), "{text} before {wanted}");
    };
    let builder = site.builder().arg("--init").env("NOTIFY_SOCKET", &path.display().to_string());
    let mut flotilla = builder.env("WATCHDOG_USEC", "200000").start();
    heard("READY=1");
    for _ in 0..3 {
        heard("WATCHDOG=1");
    }
    flotilla.signal(Signal::HUP);
    assert!(heard("RELOADING=1").contains("MONOTONIC_USEC="));
    heard("READY=1");
    flotilla.signal(Signal::TERM);
    heard("STOPPING=1");
    assert!(flotilla.ended().success());
}
