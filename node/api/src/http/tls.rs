use std::sync::Arc;

use rustls::{ServerConfig, crypto::aws_lc_rs, version};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::TlsAcceptor;

use super::{BindError, TlsConfig};

/// rustls takes the first of these that the client offers: HTTP/1.1 costs half the processor time of h2 when a blob is
/// served, and a client that wants only h2 still gets it.
const ALPN: [&[u8]; 2] = [b"http/1.1", b"h2"];

pub(super) fn acceptor(config: &TlsConfig) -> Result<TlsAcceptor, BindError> {
    let read = |source| BindError::ReadPem { path: config.cert_file.clone(), source };
    let chain = CertificateDer::pem_file_iter(&config.cert_file).map_err(read)?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(read)?;
    if chain.is_empty() {
        return Err(BindError::NoCertificate(config.cert_file.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&config.key_file)
        .map_err(|source| BindError::ReadPem { path: config.key_file.clone(), source })?;
    let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(BindError::Tls)?;
    server.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
    Ok(TlsAcceptor::from(Arc::new(server)))
}
