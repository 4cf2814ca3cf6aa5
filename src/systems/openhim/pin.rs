//! TLS towards OpenHIM: verified, or pinned. Its default certificate is self-signed and names no host the
//! way clients ask for, so a certificate that stands in `openhim.ca_file` itself is enough.
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;

#[derive(Debug)]
struct Pinned {
    pins: Vec<CertificateDer<'static>>,
    otherwise: Arc<WebPkiServerVerifier>,
}

/// Trusts the certificates of the file: as authorities, and as the server's own.
pub fn config(file: &Path) -> Result<ClientConfig, String> {
    let fail = |e: String| format!("{}: {e}", file.display());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pins: Vec<CertificateDer<'static>> =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect).map_err(|e| fail(e.to_string()))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(pins.iter().cloned());
    let otherwise =
        WebPkiServerVerifier::builder(Arc::new(roots)).build().map_err(|e| fail(e.to_string()))?;
    Ok(ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { pins, otherwise }))
        .with_no_client_auth())
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer,
        intermediates: &[CertificateDer],
        server_name: &ServerName,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.pins.iter().any(|pin| pin.as_ref() == end_entity.as_ref()) {
            return Ok(ServerCertVerified::assertion());
        }
        self.otherwise.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    // Whoever shows the certificate must have its key all the same.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.otherwise.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.otherwise.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.otherwise.supported_verify_schemes()
    }
}
