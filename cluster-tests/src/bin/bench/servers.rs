use std::{
    fs,
    io::{BufWriter, Write},
    net::SocketAddr,
    path::Path,
};

use cluster_tests::{
    Client, Flotilla, Image,
    clients::{Nginx, Registry, Tool},
    process::Builder,
};
use tempfile::TempDir;

/// What is measured, each holding the same image.
pub struct Servers {
    pub image: Image,
    flotilla: Flotilla,
    /// Also the upstream of every cold pull.
    registry: Option<Registry>,
    nginx: Option<(Nginx, TempDir)>,
}

/// One of them.
pub struct Target {
    pub name: &'static str,
    pub address: SocketAddr,
    pub pid: u32,
    pub blob_path: String,
    pub manifest_path: String,
}

pub const FLOTILLA: &str = "flotilla";
pub const REGISTRY: &str = "docker-registry";
pub const NGINX: &str = "nginx";

impl Servers {
    /// Starts what is installed, and asks each for the right bytes.
    pub fn start(flotilla: &Path, blob_bytes: u64) -> Self {
        let image = Image::oci(1, &[blob_bytes]);
        let registry = Registry::find().map(|tool| Registry::start(&tool));
        if let Some(registry) = &registry {
            registry.push("bench/image", "v1", &image);
        }
        // Without docker-registry the scripted upstream fills the cache; it is not measured then.
        let scripted = cluster_tests::Upstream::start();
        scripted.put("bench/image", "v1", &image);
        let upstream = registry.as_ref().map_or_else(|| scripted.url(), Registry::url);
        let flotilla = in_front_of(flotilla, &upstream);
        let nginx = Nginx::find().map(|tool| files(&tool, &image));
        let servers = Self { image, flotilla, registry, nginx };
        for target in servers.targets() {
            let client = Client::new(&format!("http://{}", target.address));
            client.get(&target.manifest_path);
            let fetched = client.fetch(&target.blob_path, &[]);
            let right = fetched.complete && fetched.digest == servers.image.layers()[0].digest();
            assert!(right, "{} does not serve the right bytes: {fetched:?}", target.name);
        }
        servers
    }

    pub fn registry(&self) -> Option<&Registry> {
        self.registry.as_ref()
    }

    pub fn targets(&self) -> Vec<Target> {
        let layer = self.image.layers()[0].digest();
        let at = |name, url: &str, pid, prefix: &str| Target {
            name,
            address: Client::new(url).address(),
            pid,
            blob_path: format!("/v2/{prefix}bench/image/blobs/{layer}"),
            manifest_path: format!("/v2/{prefix}bench/image/manifests/v1"),
        };
        let mut targets = vec![at(FLOTILLA, self.flotilla.endpoint(), self.flotilla.pid(), "docker-hub/")];
        targets.extend(self.registry.as_ref().map(|one| at(REGISTRY, &one.url(), one.pid(), "")));
        targets.extend(self.nginx.as_ref().map(|(one, _)| at(NGINX, &one.url(), one.pid(), "")));
        targets
    }
}

/// A fresh server whose Docker Hub is `upstream`.
pub fn in_front_of(program: &Path, upstream: &str) -> Flotilla {
    Builder::new(program).upstream_url("registry-1.docker.io", upstream).start()
}

/// nginx over the same paths: the blob and the manifest as files.
fn files(tool: &Tool, image: &Image) -> (Nginx, TempDir) {
    let root = TempDir::new().expect("a temporary folder");
    let at = |path: &str| {
        let file = root.path().join(path);
        fs::create_dir_all(file.parent().expect("a file in a folder")).expect("a folder");
        BufWriter::with_capacity(1 << 20, fs::File::create(file).expect("a file"))
    };
    let layer = &image.layers()[0];
    let mut blob = at(&format!("v2/bench/image/blobs/{}", layer.digest()));
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < layer.len() {
        let n = layer.read_at(offset, &mut buffer);
        blob.write_all(&buffer[..n]).expect("room for the blob");
        offset += n as u64;
    }
    blob.flush().expect("room for the blob");
    at("v2/bench/image/manifests/v1").write_all(&image.manifest.bytes()).expect("room for the manifest");
    (Nginx::start(tool, root.path()), root)
}
