//! The certificate of our own port. It is read anew when its file has changed: one that is renewed is
//! taken without a restart, and before the old one ends.
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio_rustls::TlsAcceptor;

/// How often the file is looked at, at most.
const EVERY: Duration = Duration::from_secs(1);

pub(super) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    in_use: Mutex<InUse>,
}

struct InUse {
    acceptor: TlsAcceptor,
    modified: Option<SystemTime>,
    looked: Instant,
}

impl Certificate {
    pub(super) fn read(cert: &Path, key: &Path) -> Result<Self, String> {
        let in_use =
            InUse { modified: modified(cert), acceptor: acceptor(cert, key)?, looked: Instant::now() };
        Ok(Self { cert: cert.to_path_buf(), key: key.to_path_buf(), in_use: Mutex::new(in_use) })
    }

    /// For a connection that comes now.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        if in_use.looked.elapsed() >= EVERY {
            in_use.looked = Instant::now();
            self.look(&mut in_use);
        }
        in_use.acceptor.clone()
    }

    /// One that cannot be used, or whose key is not there yet, is looked at again the next time.
    fn look(&self, in_use: &mut InUse) {
        let modified = modified(&self.cert);
        if modified == in_use.modified {
            return;
        }
        match acceptor(&self.cert, &self.key) {
            Ok(acceptor) => {
                (in_use.acceptor, in_use.modified) = (acceptor, modified);
                tracing::info!("the certificate of our port was read anew");
            }
            Err(error) => tracing::warn!(error, "a new certificate cannot be used; the old one serves on"),
        }
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|found| found.modified()).ok()
}

fn acceptor(cert: &Path, key: &Path) -> Result<TlsAcceptor, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let at = |path: &Path, e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect).map_err(|e| at(cert, &e))?;
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| at(key, &e))?;
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(certificates, key_der)
        .map_err(|e| at(cert, &e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
