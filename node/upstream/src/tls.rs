use std::{io, path::Path, sync::Arc};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::UpstreamConfigError;

/// Longest CA file that is read: the bundles of distributions have some 200 KiB.
const CA_FILE_LIMIT_BYTES: u64 = 4 << 20;

/// TLS towards upstreams: the system's roots with those of the one CA file for all, and per upstream those of its own.
pub(crate) struct Trust {
    roots: RootCertStore,
    pub(crate) system: Arc<ClientConfig>,
}

impl Trust {
    /// `ca_file` is the one for all upstreams.
    pub(crate) fn load(ca_file: Option<&Path>) -> Result<Self, UpstreamConfigError> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "cannot read some of the system's root certificates");
        }
        // The bundles of some systems hold certificates that rustls refuses; the others must still work.
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 && ca_file.is_none() {
            tracing::warn!("this system has no root certificates: https upstreams without a ca_file cannot be reached");
        }
        if let Some(path) = ca_file {
            add(&mut roots, "ca_file", path)?;
        }
        let system = client_config(roots.clone())?;
        Ok(Self { roots, system })
    }

    pub(crate) fn with_ca(&self, host: &str, path: &Path) -> Result<Arc<ClientConfig>, UpstreamConfigError> {
        let mut roots = self.roots.clone();
        add(&mut roots, &format!("hosts.{host}.ca_file"), path)?;
        client_config(roots)
    }
}

/// Adds the certificates of a file, which has at least one; `key` names it to the operator.
fn add(roots: &mut RootCertStore, key: &str, path: &Path) -> Result<(), UpstreamConfigError> {
    let read = |source| UpstreamConfigError::ReadCa { key: key.to_owned(), path: path.to_owned(), source };
    let parse = || UpstreamConfigError::ParseCa { key: key.to_owned(), path: path.to_owned() };
    if std::fs::metadata(path).map_err(read)?.len() > CA_FILE_LIMIT_BYTES {
        return Err(read(io::Error::new(io::ErrorKind::InvalidData, "too long for a file of certificates")));
    }
    let pem = std::fs::read(path).map_err(read)?;
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.map_err(|_| parse())?).map_err(|_| parse())?;
    }
    if roots.len() == before { Err(parse()) } else { Ok(()) }
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
