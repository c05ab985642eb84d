//! Images of every shape that clients and registries meet, from a seed: their JSON is written here and kept byte for
//! byte, since digests are of bytes.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::Content;

pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// What a client that knows all of them sends as `Accept`.
pub const ACCEPT_ALL: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest with everything it names.
#[derive(Clone, Debug)]
pub struct Image {
    pub media_type: &'static str,
    pub manifest: Content,
    /// Config first, then layers; empty for an index.
    pub blobs: Vec<Content>,
    pub children: Vec<Image>,
    platform: Option<(&'static str, &'static str)>,
}

impl Image {
    /// An OCI image for linux/amd64 with one layer of each size (bytes of its file).
    pub fn oci(seed: u64, layers: &[u64]) -> Self {
        Self::single(Flavour::Oci, seed, "amd64", seeded_layers(seed, layers))
    }

    /// As [`Image::oci`], for another architecture.
    pub fn oci_for(architecture: &'static str, seed: u64, layers: &[u64]) -> Self {
        Self::single(Flavour::Oci, seed, architecture, seeded_layers(seed, layers))
    }

    /// A Docker schema 2 image for linux/amd64.
    pub fn docker(seed: u64, layers: &[u64]) -> Self {
        Self::single(Flavour::Docker, seed, "amd64", seeded_layers(seed, layers))
    }

    /// An OCI image of the given layers, which must be uncompressed tars.
    pub fn of_layers(seed: u64, layers: Vec<Content>) -> Self {
        Self::single(Flavour::Oci, seed, "amd64", layers)
    }

    /// A manifest that names `blobs` without being able to know them: config and layers are descriptors only.
    pub fn naming(seed: u64, foreign: &Content) -> Self {
        let mut image = Self::oci(seed, &[1000]);
        image.blobs.push(foreign.clone());
        let manifest = manifest_json(Flavour::Oci, &image.blobs);
        image.manifest = encode(&manifest);
        image.blobs.pop();
        image
    }

    /// An OCI index of `children`.
    pub fn index(children: Vec<Self>) -> Self {
        Self::list(OCI_INDEX, children)
    }

    /// A Docker manifest list of `children`.
    pub fn docker_list(children: Vec<Self>) -> Self {
        Self::list(DOCKER_LIST, children)
    }

    /// An OCI artifact: the empty config, no layer, and annotations that make its digest the seed's.
    pub fn artifact(seed: u64) -> Self {
        let config = Content::held("{}");
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": "application/vnd.example.note",
            "config": descriptor("application/vnd.oci.empty.v1+json", &config),
            "layers": [],
            "annotations": {"example.seed": seed.to_string()},
        });
        Self {
            media_type: OCI_MANIFEST,
            manifest: encode(&manifest),
            blobs: vec![config],
            children: vec![],
            platform: None,
        }
    }

    /// The layers alone, in order.
    pub fn layers(&self) -> &[Content] {
        self.blobs.get(1..).unwrap_or_default()
    }

    pub fn digest(&self) -> &str {
        self.manifest.digest()
    }

    fn single(flavour: Flavour, seed: u64, architecture: &'static str, layers: Vec<Content>) -> Self {
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "created": "2026-01-01T00:00:00Z",
            "config": {"Cmd": ["/hello"], "Labels": {"seed": seed.to_string()}},
            "rootfs": {"type": "layers", "diff_ids": layers.iter().map(Content::digest).collect::<Vec<_>>()},
            "history": layers.iter().map(|_| json!({"created_by": "seed"})).collect::<Vec<_>>(),
        });
        let mut blobs = vec![encode(&config)];
        blobs.extend(layers);
        Self {
            media_type: flavour.manifest(),
            manifest: encode(&manifest_json(flavour, &blobs)),
            blobs,
            children: vec![],
            platform: Some(("linux", architecture)),
        }
    }

    fn list(media_type: &'static str, children: Vec<Self>) -> Self {
        let manifests: Vec<_> = children
            .iter()
            .map(|child| {
                let mut entry = descriptor(child.media_type, &child.manifest);
                if let Some((os, architecture)) = child.platform {
                    entry["platform"] = json!({"os": os, "architecture": architecture});
                }
                entry
            })
            .collect();
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        Self { media_type, manifest: encode(&manifest), blobs: vec![], children, platform: None }
    }
}

#[derive(Clone, Copy)]
enum Flavour {
    Oci,
    Docker,
}

impl Flavour {
    const fn manifest(self) -> &'static str {
        match self {
            Self::Oci => OCI_MANIFEST,
            Self::Docker => DOCKER_MANIFEST,
        }
    }

    const fn config(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    const fn layer(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.layer.v1.tar",
            // Engines look at the bytes, not at this name; there is no widely accepted name for plain tar.
            Self::Docker => "application/vnd.docker.image.rootfs.diff.tar.gzip",
        }
    }
}

fn seeded_layers(seed: u64, layers: &[u64]) -> Vec<Content> {
    let numbered = layers.iter().enumerate();
    numbered.map(|(i, len)| Content::layer(&format!("data-{seed}-{i}"), (seed << 8) + i as u64, *len)).collect()
}

fn manifest_json(flavour: Flavour, blobs: &[Content]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": flavour.manifest(),
        "config": descriptor(flavour.config(), &blobs[0]),
        "layers": blobs[1..].iter().map(|layer| descriptor(flavour.layer(), layer)).collect::<Vec<_>>(),
    })
}

fn descriptor(media_type: &str, content: &Content) -> Value {
    json!({"mediaType": media_type, "digest": content.digest(), "size": content.len()})
}

/// With line breaks and a final one: a registry that writes JSON anew is found out by the digest.
fn encode(value: &Value) -> Content {
    let mut text = serde_json::to_vec_pretty(value).expect("a JSON value encodes");
    text.push(b'\n');
    Content::held(Bytes::from(text))
}
