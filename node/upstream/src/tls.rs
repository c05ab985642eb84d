use std::{io, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::UpstreamConfigError;

/// Longest CA file that is read: the bundles of distributions have some 200 KiB.
const CA_FILE_LIMIT_BYTES: u64 = 4 << 20;

/// TLS towards upstreams: the system's roots, and per upstream those of its CA file.
pub(crate) struct Trust {
    roots: RootCertStore,
    pub(crate) system: Arc<ClientConfig>,
}

impl Trust {
    pub(crate) fn load() -> Result<Self, UpstreamConfigError> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "cannot read some of the system's root certificates");
        }
        // The bundles of some systems hold certificates that rustls refuses; the others must still work.
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            tracing::warn!("this system has no root certificates: https upstreams without a ca_file cannot be reached");
        }
        let system = client_config(roots.clone())?;
        Ok(Self { roots, system })
    }

    pub(crate) fn with_ca(&self, host: &str, path: &Path) -> Result<Arc<ClientConfig>, UpstreamConfigError> {
        let read = |source| UpstreamConfigError::ReadCa { host: host.to_owned(), path: path.to_owned(), source };
        let parse = || UpstreamConfigError::ParseCa { host: host.to_owned(), path: path.to_owned() };
        if std::fs::metadata(path).map_err(read)?.len() > CA_FILE_LIMIT_BYTES {
            return Err(read(io::Error::new(io::ErrorKind::InvalidData, "too long for a file of certificates")));
        }
        let pem = std::fs::read(path).map_err(read)?;
        let mut roots = self.roots.clone();
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|_| parse())?).map_err(|_| parse())?;
        }
        if roots.len() == before { Err(parse()) } else { client_config(roots) }
    }
}

fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, UpstreamConfigError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(UpstreamConfigError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // No h2: blobs are few and long, its windows and frames cost more than the connections that it saves, and a body
    // that is cut takes its connection along without touching another.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
