//! One HTTP exchange with a node, bounded in time and size.

use std::{error::Error, fmt, io, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, Uri, uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

/// A node that is there answers a SYN at once, also from another continent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Replies come in pages; a manifest is at most 4 MiB, and a call carries at most 100.
const MAX_REPLY_BYTES: usize = 512 << 20;

/// Where a node answers: scheme, host, port, and a path when a proxy in front demands one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Arc<Uri>);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an endpoint: write http://HOST:PORT or https://HOST")]
pub struct InvalidEndpoint(String);

impl Endpoint {
    /// Host and port, as the `Host` header and image names carry them.
    pub fn authority(&self) -> &str {
        self.0.authority().map_or("", uri::Authority::as_str)
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.0.scheme() == Some(&uri::Scheme::HTTPS)
    }

    /// The endpoint's own path is where the AWS API answers.
    pub(crate) fn uri(&self) -> &Uri {
        &self.0
    }

    pub(crate) fn with_path(&self, path: &'static str) -> Uri {
        self.with_target(uri::PathAndQuery::from_static(path))
    }

    pub(crate) fn with_target(&self, target: uri::PathAndQuery) -> Uri {
        let mut parts = Uri::clone(&self.0).into_parts();
        parts.path_and_query = Some(target);
        Uri::from_parts(parts).expect("scheme, authority and path are there")
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = || InvalidEndpoint(text.to_owned());
        let uri: Uri = text.trim().parse().map_err(|_| invalid())?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        // User names in the authority would be signed as part of the host, and then not be sent.
        let plain = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        if known && plain && uri.query().is_none() { Ok(Self(Arc::new(uri))) } else { Err(invalid()) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

/// Why no reply came.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("cannot read the certificates in {}", path.display())]
    ReadCertificates { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{} holds no certificate that can be trusted", .0.display())]
    NoCertificate(PathBuf),
    #[error("cannot set TLS up")]
    Tls(#[source] rustls::Error),
    #[error("cannot reach {endpoint}: is a node running there? `flotilla dev` starts one")]
    Connect { endpoint: Endpoint, source: hyper_util::client::legacy::Error },
    #[error(
        "no TLS with {endpoint}: its certificate must be made for that name, and signed by an authority of this machine, \
         --ca-file or AWS_CA_BUNDLE"
    )]
    Handshake { endpoint: Endpoint, source: hyper_util::client::legacy::Error },
    #[error("{endpoint} closed the connection without a whole reply")]
    Exchange { endpoint: Endpoint, source: Box<dyn Error + Send + Sync> },
    #[error("{endpoint} did not answer within {} s", after.as_secs())]
    TimedOut { endpoint: Endpoint, after: Duration },
    #[error("{endpoint} sent a reply of more than {} MiB", MAX_REPLY_BYTES >> 20)]
    TooLarge { endpoint: Endpoint },
}

/// Whether the other side was there, and what failed is TLS.
fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return true;
        }
        // What an I/O error wraps is not its source, but stands in for it.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = wrapped.map(|inner| -> &(dyn Error + 'static) { inner }).or_else(|| error.source());
    }
    false
}

#[derive(Clone, Debug)]
pub(crate) struct Transport {
    endpoint: Endpoint,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Transport {
    /// `ca_file` (PEM) is trusted besides the machine's own certificates.
    pub(crate) fn new(endpoint: Endpoint, ca_file: Option<&PathBuf>) -> Result<Self, TransportError> {
        // Reading the machine's certificates takes tens of milliseconds: not for plain HTTP.
        let roots = if endpoint.is_tls() { roots(ca_file)? } else { RootCertStore::empty() };
        let tls = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(TransportError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
        Ok(Self { endpoint, http: Client::builder(TokioExecutor::new()).build(connector) })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Cancellation safe: a request that is dropped is no longer waited for, though the node may act on it.
    pub(crate) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<Response<Bytes>, TransportError> {
        let endpoint = || self.endpoint.clone();
        let exchange = async {
            let response = self.http.request(request).await.map_err(|source| {
                if is_of_tls(&source) {
                    TransportError::Handshake { endpoint: endpoint(), source }
                } else if source.is_connect() {
                    TransportError::Connect { endpoint: endpoint(), source }
                } else {
                    TransportError::Exchange { endpoint: endpoint(), source: source.into() }
                }
            })?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_REPLY_BYTES).collect().await.map_err(|source| {
                if source.is::<LengthLimitError>() {
                    TransportError::TooLarge { endpoint: endpoint() }
                } else {
                    TransportError::Exchange { endpoint: endpoint(), source }
                }
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        match tokio::time::timeout(within, exchange).await {
            Ok(reply) => reply,
            Err(_) => Err(TransportError::TimedOut { endpoint: endpoint(), after: within }),
        }
    }
}

fn roots(ca_file: Option<&PathBuf>) -> Result<RootCertStore, TransportError> {
    let mut roots = RootCertStore::empty();
    // A machine without certificates, or with odd ones, can still trust the file.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        let read = |source| TransportError::ReadCertificates { path: path.clone(), source };
        let certificates =
            CertificateDer::pem_file_iter(path).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
        let (trusted, _) = roots.add_parsable_certificates(certificates);
        if trusted == 0 {
            return Err(TransportError::NoCertificate(path.clone()));
        }
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_urls_of_nodes() {
        for (text, printed, authority) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5000", "127.0.0.1:5000"),
            (" https://registry.example\n", "https://registry.example", "registry.example"),
            ("http://[::1]:5000/admin/api", "http://[::1]:5000/admin/api", "[::1]:5000"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.to_string().as_str(), endpoint.authority()), (printed, authority));
        }
        for bad in ["", "127.0.0.1:5000", "localhost", "ftp://x", "http://", "http://user@x", "http://x/?a", "/x"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_file_without_certificates_is_named() {
        let folder = std::env::temp_dir().join(format!("flotilla-cli-ca-{}", std::process::id()));
        std::fs::write(&folder, "nothing").unwrap();
        let error = Transport::new("https://x".parse().unwrap(), Some(&folder)).unwrap_err();
        std::fs::remove_file(&folder).unwrap();
        assert!(matches!(error, TransportError::NoCertificate(_)), "{error}");
        let error = Transport::new("https://x".parse().unwrap(), Some(&folder)).unwrap_err();
        assert!(matches!(error, TransportError::ReadCertificates { .. }), "{error}");
    }
}
