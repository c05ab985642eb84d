//! A registry that answers what a test has put into it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use flotilla_oci::{Algorithm, Digest, MediaType};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

#[derive(Clone)]
pub(super) struct Upstream {
    pub(super) port: u16,
    /// By path: content type and bytes. `None` once everything fails.
    content: Arc<Mutex<Option<Content>>>,
}

type Content = HashMap<String, (String, Bytes)>;

pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    Digest::from_hash(Algorithm::Sha256, hash.as_ref()).unwrap()
}

impl Upstream {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = Self { port, content: Arc::new(Mutex::new(Some(HashMap::new()))) };
        let server = upstream.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        upstream
    }

    pub(super) fn put(&self, path: String, media_type: &str, bytes: &[u8]) {
        let mut content = self.content.lock().unwrap();
        content.as_mut().unwrap().insert(path, (media_type.to_owned(), Bytes::copy_from_slice(bytes)));
    }

    /// An image of one layer, under its tag and its digest.
    pub(super) fn put_image(&self, name: &str, tag: &str, layer: &[u8]) -> (Digest, Vec<u8>) {
        let config = format!("{{\"tag\":\"{tag}\"}}");
        let descriptor = |media_type: &str, bytes: &[u8]| serde_json::json!({"mediaType": media_type, "digest": digest_of(bytes).to_string(), "size": bytes.len()});
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MediaType::OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", layer)],
        });
        // Not as any serializer would write it again.
        let manifest = format!(" {manifest}\n").into_bytes();
        let digest = digest_of(&manifest);
        for reference in [tag, &digest.to_string()] {
            self.put(format!("/v2/{name}/manifests/{reference}"), MediaType::OCI_MANIFEST, &manifest);
        }
        for blob in [config.as_bytes(), layer] {
            self.put_blob(name, digest_of(blob), blob);
        }
        (digest, manifest)
    }

    /// Under a digest that may be another one's.
    pub(super) fn put_blob(&self, name: &str, digest: Digest, bytes: &[u8]) {
        self.put(format!("/v2/{name}/blobs/{digest}"), "application/octet-stream", bytes);
    }

    pub(super) fn fail(&self) {
        *self.content.lock().unwrap() = None;
    }

    async fn serve(&self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut first = String::new();
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                if first.is_empty() {
                    first.clone_from(&line);
                }
                if line.trim_end().is_empty() {
                    break;
                }
            }
            let mut words = first.split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let answer = self.content.lock().unwrap().as_ref().map(|content| content.get(path).cloned());
            let (status, media_type, body) = match answer {
                None => (500, "text/plain".to_owned(), Bytes::new()),
                Some(None) => (404, "text/plain".to_owned(), Bytes::new()),
                Some(Some((media_type, bytes))) => (200, media_type, bytes),
            };
            let head =
                format!("HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n", body.len());
            let body = if method == "HEAD" { Bytes::new() } else { body };
            if stream.write_all(&[head.as_bytes(), &body].concat()).await.is_err() {
                return;
            }
        }
    }
}
