//! Connections: TLS if configured, limits on heads, time and number, and an orderly end.
use super::audit::Peer;
use crate::config;
use axum::Router;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    connections: Arc<Semaphore>,
    max_header_bytes: usize,
    read_timeout: Duration,
}

impl Server {
    pub async fn bind(settings: &config::Server) -> Result<Self, String> {
        let listener =
            TcpListener::bind(settings.listen).await.map_err(|e| format!("{}: {e}", settings.listen))?;
        let tls = match (&settings.tls_cert, &settings.tls_key) {
            (Some(cert), Some(key)) => Some(acceptor(cert, key)?),
            _ => None,
        };
        Ok(Self {
            listener,
            tls,
            connections: Arc::new(Semaphore::new(settings.max_connections)),
            max_header_bytes: settings.max_header_bytes.max(8192),
            read_timeout: Duration::from_millis(settings.read_timeout_ms),
        })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until told to stop, then lets what is under way finish within the time.
    pub async fn run(self, router: Router, stop: CancellationToken, within: Duration) {
        let graceful = GracefulShutdown::new();
        let closed = CancellationToken::new();
        // Even if we are not waited for: what a connection took in later, nobody here would carry out.
        let _closes = closed.clone().drop_guard();
        loop {
            let permit = tokio::select! {
                () = stop.cancelled() => break,
                permit = self.connections.clone().acquire_owned() => permit,
            };
            let Ok(permit) = permit else { break };
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match stream {
                Ok((stream, from)) => {
                    self.serve(stream, Peer(from), permit, router.clone(), &graceful, closed.clone());
                }
                // Out of file descriptors, or a peer that is gone already: others may still come.
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        drop(self.listener);
        if tokio::time::timeout(within, graceful.shutdown()).await.is_err() {
            tracing::warn!("connections that did not end in time were closed");
        }
    }

    fn serve(
        &self,
        stream: TcpStream,
        from: Peer,
        permit: OwnedSemaphorePermit,
        router: Router,
        graceful: &GracefulShutdown,
        closed: CancellationToken,
    ) {
        let _ = stream.set_nodelay(true);
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.read_timeout)
            .max_buf_size(self.max_header_bytes);
        let router = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(from);
            router.call(request)
        });
        let watcher = graceful.watcher();
        let (tls, read_timeout) = (self.tls.clone(), self.read_timeout);
        tokio::spawn(closed.run_until_cancelled_owned(async move {
            let _permit = permit;
            let ended = match tls {
                None => watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await,
                Some(tls) => match tokio::time::timeout(read_timeout, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        watcher.watch(http.serve_connection(TokioIo::new(stream), service)).await
                    }
                    _ => return,
                },
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended early");
            }
        }));
    }
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
