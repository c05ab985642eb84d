//! The certificate that is served, and how it is replaced while it is.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use flotilla_runtime::{Host, Published, Publisher};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::TlsAcceptor;

use super::{BindError, TlsConfig, expiry, observe::Chain};
use crate::metrics::{ApiMetrics, CertificateLabels};

/// rustls takes the first of these that the client offers: HTTP/1.1 costs half the processor time of h2 when a blob is
/// served, and a client that wants only h2 still gets it.
const ALPN: [&[u8]; 2] = [b"http/1.1", b"h2"];
/// How often the files are looked at. Whoever renews them does so days before they end.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The pair of files and what they held when they last made a pair.
pub(super) struct Certificates {
    serving: Published<CertifiedKey>,
    publisher: Publisher<CertifiedKey>,
    files: Mutex<Files>,
}

#[derive(Clone)]
struct Files {
    config: TlsConfig,
    /// As they were when they were last read.
    seen: Stamps,
}

/// What tells a file from its predecessor: a renewal may keep its length, and a copy its time.
type Stamps = [Option<(u64, u64, i64, i64, i64, i64)>; 2];

impl Certificates {
    /// # Errors
    /// Files that cannot be read or are no pair.
    pub(super) fn read(config: &TlsConfig) -> Result<(Arc<Self>, TlsAcceptor), BindError> {
        let seen = stamps(config);
        let (publisher, serving) = Publisher::new(pair(config)?);
        let mut server = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(BindError::Tls)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Serving(serving.clone())));
        server.alpn_protocols = ALPN.map(<[u8]>::to_vec).into();
        let files = Mutex::new(Files { config: config.clone(), seen });
        Ok((Arc::new(Self { serving, publisher, files }), TlsAcceptor::from(Arc::new(server))))
    }

    /// Serves the files of `config` from now on; the connections that are there keep what they have.
    ///
    /// # Errors
    /// As [`Certificates::read`]; what was served is served on.
    pub(super) async fn replace(self: &Arc<Self>, config: &TlsConfig, host: &Host) -> Result<(), BindError> {
        let wanted = config.clone();
        let (seen, pair) = host.blocking.run(move || (stamps(&wanted), pair(&wanted))).await;
        let pair = pair?;
        *self.files() = Files { config: config.clone(), seen };
        self.publisher.publish(pair);
        Ok(())
    }

    /// Looks at the files until the node stops. What is no pair is told once, and not served.
    pub(super) async fn watch(self: Arc<Self>, host: Host, metrics: ApiMetrics) {
        let drain = host.tasks.drain();
        let mut served = self.serving.clone();
        self.tell(&metrics);
        loop {
            tokio::select! {
                () = drain.begun() => return,
                _ = served.changed() => self.tell(&metrics),
                () = tokio::time::sleep(LOOK_EVERY) => self.look(&host).await,
            }
        }
    }

    async fn look(self: &Arc<Self>, host: &Host) {
        let files = self.files().clone();
        let (now, files) = host.blocking.run(move || (stamps(&files.config), files)).await;
        if now == files.seen {
            return;
        }
        if let Err(error) = self.replace(&files.config, host).await {
            tracing::warn!(error = %Chain(&error), "the certificate's files have changed and are not served: no pair");
            self.files().seen = now;
        }
    }

    fn tell(&self, metrics: &ApiMetrics) {
        let serving = self.serving.load();
        let ends = serving.cert.first().and_then(|certificate| expiry::not_after(certificate));
        if let Some(ends) = ends {
            metrics.certificate_expiry.get_or_create(&CertificateLabels { purpose: "http" }).set(ends);
        }
        tracing::info!(ends_unix_seconds = ends, "certificate is served");
    }

    fn files(&self) -> std::sync::MutexGuard<'_, Files> {
        // Whole after a panic: it is only ever replaced.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Serving(Published<CertifiedKey>);

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Serving")
    }
}

impl ResolvesServerCert for Serving {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load())
    }
}

fn pair(config: &TlsConfig) -> Result<CertifiedKey, BindError> {
    let read = |source| BindError::ReadPem { path: config.cert_file.clone(), source };
    let chain = CertificateDer::pem_file_iter(&config.cert_file).map_err(read)?;
    let chain: Vec<_> = chain.collect::<Result<_, _>>().map_err(read)?;
    if chain.is_empty() {
        return Err(BindError::NoCertificate(config.cert_file.clone()));
    }
    let key = PrivateKeyDer::from_pem_file(&config.key_file)
        .map_err(|source| BindError::ReadPem { path: config.key_file.clone(), source })?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(BindError::Tls)
}

fn stamps(config: &TlsConfig) -> Stamps {
    let stamp = |path: &Path| -> io::Result<_> {
        let found = fs::metadata(path)?;
        Ok((found.ino(), found.len(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()))
    };
    [stamp(&config.cert_file).ok(), stamp(&config.key_file).ok()]
}

#[cfg(test)]
mod tests {
    use super::{super::tests::certificate, *};

    #[tokio::test]
    async fn files_that_change_are_served_once_they_are_a_pair() {
        let dir = tempfile::tempdir().unwrap();
        let ((files, first), host) = (certificate(dir.path(), "a"), Host::system());
        let (certificates, _acceptor) = Certificates::read(&files).unwrap();
        let serving = || certificates.serving.load().cert[0].to_vec();
        let seen = || certificates.files().seen;
        let (other, second) = certificate(dir.path(), "b");
        fs::rename(&other.cert_file, &files.cert_file).unwrap();
        let before = seen();
        certificates.look(&host).await;
        assert_eq!(serving(), first, "half of a renewal is not served");
        assert_ne!(seen(), before, "and told once");
        fs::rename(&other.key_file, &files.key_file).unwrap();
        certificates.look(&host).await;
        assert_eq!(serving(), second);
        fs::remove_file(&files.key_file).unwrap();
        certificates.look(&host).await;
        assert_eq!(serving(), second);
    }
}
