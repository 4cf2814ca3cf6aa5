//! Serves a stand-in's routes, with its faults in front of them.
use super::faults::{Call, Fault, Faults};
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::io;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

/// A stand-in that listens. Ends when it is stopped or dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) async fn start(listener: TcpListener, router: Router, faults: Faults) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let cancel = CancellationToken::new();
        let task = tokio::spawn(accept(listener, router, faults, cancel.clone()));
        Ok(Self { address, cancel, task })
    }

    /// Closes the port and every connection.
    pub(super) async fn stop(mut self) {
        self.cancel.cancel();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

async fn accept(listener: TcpListener, router: Router, faults: Faults, cancel: CancellationToken) {
    // Dropped with this function: then the connections are closed.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(connection(stream, router.clone(), faults.clone()));
            },
        }
    }
}

async fn connection(stream: TcpStream, router: Router, faults: Faults) {
    let service = service_fn(move |request| answer(request, router.clone(), faults.clone()));
    let io = TokioIo::new(stream);
    // An error is a client that left, or a fault that was planned.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(io, service)
        .await;
}

/// An error makes hyper close the connection without an answer.
async fn answer(request: Request<Incoming>, router: Router, faults: Faults) -> io::Result<Response<Body>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let call = Call { method: request.method().to_string(), path: path.to_string() };
    match faults.meet(call) {
        None => effect(request, router).await,
        Some(Fault::Answer { status, retry_after }) => refusal(status, retry_after),
        Some(Fault::Say { status, body }) => {
            Response::builder().status(status).body(Body::from(body)).map_err(io::Error::other)
        }
        Some(Fault::DropBefore) => Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::Hang(time)) => {
            let response = effect(request, router).await;
            tokio::time::sleep(time).await;
            response
        }
        Some(Fault::DropAfterEffect) => {
            effect(request, router).await?;
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
}

/// In a task of its own: a real server, too, ends what it began when the client goes away.
async fn effect(request: Request<Incoming>, router: Router) -> io::Result<Response<Body>> {
    let handled = tokio::spawn(async move { TowerToHyperService::new(router).call(request).await });
    match handled.await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(never)) => match never {},
        Err(panicked) => Err(io::Error::other(panicked)),
    }
}

fn refusal(status: u16, retry_after: Option<String>) -> io::Result<Response<Body>> {
    let status = StatusCode::from_u16(status).map_err(io::Error::other)?;
    let mut response = Response::builder().status(status);
    if let Some(time) = retry_after {
        response = response.header(header::RETRY_AFTER, time);
    }
    response.body(Body::from("planned fault")).map_err(io::Error::other)
}
