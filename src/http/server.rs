//! Connections: TLS if configured, limits on heads, time and number, and an orderly end.
use super::audit::Peer;
use super::certificate::Certificate;
use super::connections::Idle;
use crate::config;
use axum::Router;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

pub struct Server {
    listener: TcpListener,
    tls: Option<Certificate>,
    connections: Arc<Semaphore>,
    idle: Idle,
    max_header_bytes: usize,
    read_timeout: Duration,
}

impl Server {
    pub async fn bind(settings: &config::Server) -> Result<Self, String> {
        let listener =
            TcpListener::bind(settings.listen).await.map_err(|e| format!("{}: {e}", settings.listen))?;
        let tls = match (&settings.tls_cert, &settings.tls_key) {
            (Some(cert), Some(key)) => Some(Certificate::read(cert, key)?),
            _ => None,
        };
        Ok(Self {
            listener,
            tls,
            connections: Arc::new(Semaphore::new(affordable(settings.max_connections))),
            idle: Idle::default(),
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
                permit = self.room() => permit,
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

    /// Room for one more, which an idle one has to give if there is none.
    async fn room(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        loop {
            if let Ok(permit) = self.connections.clone().try_acquire_owned() {
                return Ok(permit);
            }
            let room = self.connections.clone().acquire_owned();
            if self.idle.dismiss() {
                return room.await;
            }
            tokio::select! {
                permit = room => return permit,
                () = self.idle.one_more() => {}
            }
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
        let end = closed.child_token();
        let seat = Arc::new(self.idle.seat(end.clone()));
        let service = TowerToHyperService::new(router);
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(from);
            seat.work();
            let (seat, answer) = (seat.clone(), service.call(request));
            async move {
                let answer = answer.await;
                seat.rest();
                answer
            }
        });
        let watcher = graceful.watcher();
        let (tls, read_timeout) = (self.tls.as_ref().map(Certificate::acceptor), self.read_timeout);
        tokio::spawn(end.run_until_cancelled_owned(async move {
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

/// Files that everything else may need: calls to neighbours, the journal.
const SPARE: u64 = 1024;

/// As many connections as are wanted, or as the limit on open files leaves room for.
fn affordable(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let needed = wanted as u64 + SPARE;
    let soft = limit.maximum.map_or(needed, |hard| hard.min(needed));
    if limit.current.is_some_and(|current| current < soft) {
        let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(soft), ..limit });
        if let Err(error) = raised {
            tracing::warn!(%error, "the limit on open files cannot be raised");
        }
    }
    let Some(files) = getrlimit(Resource::Nofile).current else { return wanted };
    let room = files.saturating_sub(SPARE.min(files / 2)) as usize;
    if room < wanted {
        tracing::warn!(
            "server.max_connections is {wanted}, and {files} open files leave room for {room}: raise the limit \
             (LimitNOFILE of the service)"
        );
    }
    wanted.min(room)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::sync::mpsc;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_is_not_waited_for_works_on_nothing_any_more() {
        let settings = [("MEDIATOR__SERVER__LISTEN".into(), "127.0.0.1:0".into())];
        let settings = config::load(None, settings.into_iter()).map_err(|_| ()).expect("settings");
        let server = Server::bind(&settings.server).await.expect("a server");
        let address = server.address().expect("its address");
        // Told when a request is begun; at its end when nobody is left who could work on one.
        let (works, mut told) = mpsc::channel(1);
        let router = Router::new().fallback(async move || {
            let _ = works.send(()).await;
            std::future::pending::<()>().await
        });
        let stop = CancellationToken::new();
        let server = tokio::spawn(server.run(router, stop.clone(), Duration::from_secs(60)));
        let mut caller = TcpStream::connect(address).await.expect("a connection");
        caller.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
        assert_eq!(told.recv().await, Some(()));
        stop.cancel();
        server.abort();
        // It ends at once; the rest is for a busy machine.
        let end = tokio::time::timeout(Duration::from_secs(10), told.recv()).await;
        assert_eq!(end, Ok(None), "somebody still works on it");
    }
}
