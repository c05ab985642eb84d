//! `flotilla serve`: the production form, with a configuration file, TLS, and nobody anonymous.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use cluster_tests::{
    Client, Flotilla, Image, Upstream,
    clients::{find, required, run},
    process::Builder,
};
use tempfile::TempDir;

use crate::common::{APP, DOCKER_HUB, client, create_rule, manifest_path, pull};

/// A folder with a configuration file, and a hub behind it.
pub(crate) struct Site {
    hub: Upstream,
    image: Image,
    folder: TempDir,
}

impl Site {
    pub(crate) fn hub(&self) -> &Upstream {
        &self.hub
    }

    pub(crate) fn new(more: &str) -> Self {
        let (hub, image) = (Upstream::start(), Image::oci(240, &[100_000]));
        hub.put("library/app", "latest", &image);
        let folder = TempDir::new().unwrap();
        let site = Self { hub, image, folder };
        site.write(more);
        site
    }

    /// `more` are tables, or keys of `[http]` before them.
    pub(crate) fn write(&self, more: &str) {
        let text = format!(
            "[node]\ndata_dir = \"{}\"\n[upstream.hosts.\"{DOCKER_HUB}\"]\nbase_url = \"{}\"\n[http]\nlisten = [\"127.0.0.1:0\"]\ndrain_delay_seconds = 0\n{more}\n",
            self.data().display(),
            self.hub.url()
        );
        fs::write(self.config(), text).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("flotilla.toml")
    }

    pub(crate) fn builder(&self) -> Builder {
        Builder::new(crate::FLOTILLA).data(&self.data()).serve(&self.config())
    }
}

fn signed_in(flotilla: &Flotilla) -> Client {
    let password = flotilla.run(&["login-password"]);
    let basic = BASE64_STANDARD.encode(format!("AWS:{}", password.trim()));
    client(flotilla).with("Authorization", &format!("Basic {basic}"))
}

#[test]
fn an_empty_folder_founds_nothing_by_itself() {
    let site = Site::new("");
    let output = Command::new(crate::FLOTILLA).arg("serve").arg("--config").arg(site.config()).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("--init") && said.contains(&site.data().display().to_string()), "{said}");
}

#[test]
fn without_anonymous_everybody_signs_in_with_basic() {
    let site = Site::new("");
    let mut flotilla = site.builder().arg("--init").start();
    create_rule(&cluster_tests::aws::Aws::root(&flotilla), "docker-hub", DOCKER_HUB);
    let nobody = client(&flotilla);
    for path in ["/v2/".to_owned(), manifest_path(APP, "latest"), "/v2/_catalog".to_owned()] {
        let refused = nobody.get(&path);
        assert_eq!((refused.status, refused.error_code().as_str()), (401, "UNAUTHORIZED"), "{path}");
        assert!(refused.header("www-authenticate").unwrap().starts_with("Basic realm="), "{path}");
    }
    let wrong = nobody.with("Authorization", &format!("Basic {}", BASE64_STANDARD.encode("AWS:wrong")));
    assert_eq!(wrong.get(&manifest_path(APP, "latest")).status, 401);
    assert_eq!(site.hub.requests().len(), 0, "upstream is not asked for strangers");
    let somebody = signed_in(&flotilla);
    assert_eq!(somebody.get("/v2/").status, 200);
    pull(&somebody, APP, "latest", &site.image);
    assert!(flotilla.terminate().success());

    // What `serve --init` founded, `serve` finds again, and tokens of before are still good.
    let flotilla = site.builder().start();
    let again = Client::new(flotilla.endpoint()).with("Accept", cluster_tests::image::ACCEPT_ALL);
    assert_eq!(again.get("/v2/").status, 401);
    pull(&signed_in(&flotilla), APP, "latest", &site.image);
}

#[test]
fn a_folder_of_dev_can_be_served() {
    let site = Site::new("[access.anonymous]\npull = true");
    let dev = Builder::new(crate::FLOTILLA).data(&site.folder.path().join("dev")).upstream(DOCKER_HUB, &site.hub);
    let mut flotilla = dev.start();
    pull(&client(&flotilla), APP, "latest", &site.image);
    assert!(flotilla.terminate().success());
    fs::rename(site.folder.path().join("dev/n1"), site.data()).unwrap();
    let Site { hub, image, .. } = &site;
    hub.forget_requests();
    let flotilla = site.builder().start();
    pull(&client(&flotilla), APP, "latest", image);
    assert_eq!(hub.requests().len(), 0, "it was all there: {:?}", hub.requests());
}

/// A certificate for 127.0.0.1 in `folder`: the paths of certificate and key.
pub(crate) fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (certificate, key)
}

#[test]
fn tls_serves_both_versions_of_http_and_the_command_line() {
    let Some(curl) = required(find("curl"), "curl") else { return };
    let site = Site::new("");
    let (certificate, key) = certificate(site.folder.path());
    let tls = format!(
        "tls = {{ cert_file = \"{}\", key_file = \"{}\" }}\n[access.anonymous]\npull = true",
        certificate.display(),
        key.display()
    );
    site.write(&tls);
    let flotilla = site.builder().arg("--init").start();
    assert!(flotilla.endpoint().starts_with("https://"), "{}", flotilla.endpoint());
    let ca = certificate.display().to_string();
    let unknown = flotilla.command(&["status", "--endpoint", flotilla.endpoint()]).output().unwrap();
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(unknown.status.code() == Some(3) && said.contains("--ca-file"), "{said}");
    let rule = ["rule", "add", "docker-hub", "--endpoint", flotilla.endpoint(), "--ca-file", &ca];
    flotilla.run(&rule);
    let url = format!("{}{}", flotilla.endpoint(), manifest_path(APP, "latest"));
    for (version, said) in [("--http1.1", "1.1"), ("--http2", "")] {
        let mut command = Command::new(&curl.0);
        command.args(["-sS", "--fail", "--cacert", &ca, version, "-w", "\n%{http_version}", &url]);
        let answer = run(&mut command);
        let (body, spoken) = answer.rsplit_once('\n').unwrap();
        assert_eq!(body.as_bytes(), site.image.manifest.bytes().as_ref());
        assert!(spoken.starts_with(said), "{version}: {spoken}");
    }
    let plain =
        Command::new(&curl.0).args(["-sS", "--max-time", "10", &url.replace("https://", "http://")]).output().unwrap();
    assert!(!String::from_utf8_lossy(&plain.stdout).contains("schemaVersion"), "it answered without TLS");
    let untrusted = Command::new(&curl.0).args(["-sS", "--max-time", "10", &url]).output().unwrap();
    assert!(!untrusted.status.success());
}

#[test]
fn http2_without_tls_is_not_spoken() {
    let Some(curl) = required(find("curl"), "curl") else { return };
    let (_hub, flotilla) = crate::common::with_image(&Image::oci(241, &[1 << 10]));
    let url = format!("{}/healthz", flotilla.endpoint());
    let upgraded = run(Command::new(&curl.0).args(["-sS", "--http2", "-w", "%{http_version}", &url]));
    assert_eq!(upgraded, "ok\n1.1");
    let known = Command::new(&curl.0).args(["-sS", "--max-time", "10", "--http2-prior-knowledge", &url]).output();
    assert!(!known.unwrap().status.success());
}

#[test]
fn bad_certificates_are_named_before_anything_is_bound() {
    let site = Site::new("tls = { cert_file = \"/nowhere/tls.crt\", key_file = \"/nowhere/tls.key\" }");
    let output =
        Command::new(crate::FLOTILLA).args(["serve", "--init", "--config"]).arg(site.config()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/tls.crt"));
}
