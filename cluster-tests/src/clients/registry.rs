use std::{fs, net::TcpStream, process::Command};

use base64::{Engine, prelude::BASE64_STANDARD};
use tempfile::TempDir;

use super::{Daemon, Tool, find, free_port};
use crate::{Client, Content, Image};

/// Debian's `docker-registry`: a real upstream, and what we measure ourselves against.
pub struct Registry {
    daemon: Daemon,
    port: u16,
    is_private: bool,
    _folder: TempDir,
}

/// The one user of [`Registry::private`], and bcrypt of the password, which is all that this registry takes.
const HTPASSWD: &str = "robot:$2b$05$abcdefghijklmnopqrstuuJQ0OEfoQ1jvzDwPykoQtl7vEtSYYygy\n";

impl Registry {
    pub fn find() -> Option<Tool> {
        find("docker-registry")
    }

    pub const USER: &str = "robot";
    pub const PASSWORD: &str = "hunter2-of-the-registry";

    pub fn start(tool: &Tool) -> Self {
        Self::configured(tool, "", false)
    }

    /// With one user, by htpasswd.
    pub fn private(tool: &Tool) -> Self {
        Self::configured(tool, "", true)
    }

    fn client(&self) -> Client {
        let client = Client::new(&self.url());
        if !self.is_private {
            return client;
        }
        let login = BASE64_STANDARD.encode(format!("{}:{}", Self::USER, Self::PASSWORD));
        client.with("Authorization", &format!("Basic {login}"))
    }

    /// As a pull-through cache of `origin`, an `http://` address.
    pub fn proxy_of(tool: &Tool, origin: &str) -> Self {
        Self::configured(tool, &format!("proxy:\n  remoteurl: {origin}\n"), false)
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.host())
    }

    /// `127.0.0.1:PORT`
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Pushes `image` byte for byte, with all it names.
    ///
    /// # Panics
    /// When the registry refuses it.
    #[track_caller]
    pub fn push(&self, repository: &str, tag: &str, image: &Image) {
        self.push_as(repository, tag, image);
    }

    fn push_as(&self, repository: &str, reference: &str, image: &Image) {
        for child in &image.children {
            self.push_as(repository, child.digest(), child);
        }
        for blob in &image.blobs {
            self.push_blob(repository, blob);
        }
        let path = format!("/v2/{repository}/manifests/{reference}");
        let headers = [("Content-Type", image.media_type)];
        let response = self.client().request("PUT", &path, &headers, &image.manifest.bytes());
        assert_eq!(response.status, 201, "PUT {path}: {}", response.text());
    }

    #[track_caller]
    fn push_blob(&self, repository: &str, content: &Content) {
        const PART_BYTES: u64 = 8 << 20;
        let client = self.client();
        let begun = client.request("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"");
        let mut location = begun.header("location").expect("an upload has a location").to_owned();
        let mut at = 0;
        while at < content.len() {
            let part = content.range(at, at + PART_BYTES);
            let path = location.strip_prefix(&self.url()).unwrap_or(&location).to_owned();
            let range = format!("{at}-{}", at + part.len() as u64 - 1);
            let headers = [("Content-Type", "application/octet-stream"), ("Content-Range", range.as_str())];
            let answer = client.request("PATCH", &path, &headers, &part);
            assert_eq!(answer.status, 202, "PATCH {path}: {}", answer.text());
            location = answer.header("location").expect("an upload has a location").to_owned();
            at += part.len() as u64;
        }
        let path = location.strip_prefix(&self.url()).unwrap_or(&location);
        let done = client.request("PUT", &format!("{path}&digest={}", content.digest()), &[], b"");
        assert_eq!(done.status, 201, "PUT {path}: {}", done.text());
    }

    fn configured(tool: &Tool, more: &str, is_private: bool) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let port = free_port();
        let file = folder.path().join("config.yml");
        let data = folder.path().join("data");
        let users = folder.path().join("htpasswd");
        fs::write(&users, HTPASSWD).expect("a file of users");
        let auth = format!("auth:\n  htpasswd:\n    realm: upstream\n    path: {}\n", users.display());
        let auth = if is_private { auth.as_str() } else { "" };
        let config = format!(
            "version: 0.1\nlog:\n  level: warn\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n  delete:\n    enabled: true\n\
             http:\n  addr: 127.0.0.1:{port}\n{more}{auth}",
            data.display()
        );
        fs::write(&file, config).expect("a configuration file");
        let mut command = Command::new(&tool.0);
        command.arg("serve").arg(&file).env("OTEL_TRACES_EXPORTER", "none");
        let daemon = Daemon::start(&mut command, folder.path(), || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { daemon, port, is_private, _folder: folder }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Upstream,
        clients::{required, run},
    };

    #[test]
    fn images_of_every_shape_are_what_a_real_registry_accepts_and_skopeo_copies() {
        let Some(tool) = required(Registry::find(), "docker-registry") else { return };
        let Some(skopeo) = required(find("skopeo"), "skopeo") else { return };
        let registry = Registry::start(&tool);
        let upstream = Upstream::start();
        let pair = |seed| vec![Image::oci(seed, &[9000]), Image::oci_for("arm64", seed + 1, &[9000])];
        let images = [
            ("single", Image::oci(1, &[70_000, 100])),
            ("docker", Image::docker(2, &[70_000])),
            ("index", Image::index(pair(3))),
            ("list", Image::docker_list(vec![Image::docker(5, &[500]), Image::docker(6, &[500])])),
            ("nested", Image::index(vec![Image::index(pair(7)), Image::oci(9, &[10])])),
            ("artifact", Image::artifact(10)),
        ];
        for (name, image) in &images {
            registry.push(name, "v1", image);
            upstream.put(name, "v1", image);
            let held = Client::new(&registry.url()).request(
                "GET",
                &format!("/v2/{name}/manifests/v1"),
                &[("Accept", crate::image::ACCEPT_ALL)],
                b"",
            );
            assert_eq!((held.status, held.body), (200, image.manifest.bytes().to_vec()), "{name}");
        }
        let folder = TempDir::new().unwrap();
        for (name, _) in images.iter().filter(|(name, _)| *name != "nested") {
            for host in [registry.host(), upstream.host()] {
                let into =
                    format!("dir:{}", folder.path().join(format!("{name}-{}", host.replace(':', "-"))).display());
                let from = format!("docker://{host}/{name}:v1");
                run(Command::new(&skopeo.0).args(["copy", "--all", "--src-tls-verify=false", &from, &into]));
            }
        }
    }
}
