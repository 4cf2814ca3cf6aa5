//! A neighbour that answers with bytes of its own making, until it is mended. Then, and to what it is not
//! rude about, it is a wire to a true one.
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What is said to a request, once what it asked for is done.
#[derive(Clone)]
pub struct Manner {
    pub says: &'static str,
    pub then: Then,
}

#[derive(Clone)]
pub enum Then {
    Close,
    Hang,
    /// This again and again, after this time each.
    Again(String, Duration),
}

pub struct Rude {
    pub address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    _end: DropGuard,
}

#[derive(Default)]
struct Mood {
    /// To the first request that begins so (`POST /fhir`), and to all from then on.
    rude: Option<(&'static str, Manner)>,
    met: usize,
}

impl Mood {
    /// What to say to a request, if not what the true one says.
    fn meet(&mut self, request: &[u8]) -> Option<Manner> {
        let (to, manner) = self.rude.as_ref()?;
        let is_rude = self.met > 0 || request.starts_with(to.as_bytes());
        self.met += usize::from(is_rude);
        is_rude.then(|| manner.clone())
    }
}

impl Rude {
    pub async fn start(truth: SocketAddr) -> Self {
        // Every address of this machine: 127.0.1.1 and 127.0.1.2 are two hosts.
        let listener = TcpListener::bind(("0.0.0.0", 0)).await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let mood: Arc<Mutex<Mood>> = Arc::default();
        let end = CancellationToken::new();
        let one = One { truth, mood: mood.clone() };
        tokio::spawn(end.clone().run_until_cancelled_owned(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(one.clone().answer(stream));
            }
        }));
        Self { address: ([127, 0, 0, 1], port).into(), mood, _end: end.drop_guard() }
    }

    /// One that is rude to everybody, and is a wire to nobody.
    pub async fn always(says: &'static str, then: Then) -> Self {
        let rude = Self::start(([127, 0, 0, 1], 9).into()).await;
        rude.be("", Manner { says, then });
        rude
    }

    /// One that takes requests and never answers.
    pub async fn silent() -> Self {
        Self::always("", Then::Hang).await
    }

    pub fn be(&self, to: &'static str, manner: Manner) {
        *self.mood.lock().expect("a mood") = Mood { rude: Some((to, manner)), met: 0 };
    }

    pub fn mend(&self) {
        self.mood.lock().expect("a mood").rude = None;
    }

    /// Requests that it was rude to.
    pub fn met(&self) -> usize {
        self.mood.lock().expect("a mood").met
    }
}

#[derive(Clone)]
struct One {
    truth: SocketAddr,
    mood: Arc<Mutex<Mood>>,
}

impl One {
    /// One request a connection. Whoever breaks it off ends this.
    async fn answer(self, mut stream: TcpStream) -> Option<()> {
        let request = message(&mut stream).await?;
        let truth = self.ask(&request).await;
        let rude = self.mood.lock().expect("a mood").meet(&request);
        let Some(manner) = rude else {
            let answer = String::from_utf8(truth?).ok()?;
            let (status, rest) = answer.split_once("\r\n")?;
            return stream
                .write_all(format!("{status}\r\nconnection: close\r\n{rest}").as_bytes())
                .await
                .ok();
        };
        stream.write_all(manner.says.as_bytes()).await.ok()?;
        match manner.then {
            Then::Close => Some(()),
            Then::Hang => std::future::pending().await,
            Then::Again(what, pause) => loop {
                stream.write_all(what.as_bytes()).await.ok()?;
                tokio::time::sleep(pause).await;
            },
        }
    }

    async fn ask(&self, request: &[u8]) -> Option<Vec<u8>> {
        let mut truth = TcpStream::connect(self.truth).await.ok()?;
        truth.write_all(request).await.ok()?;
        message(&mut truth).await
    }
}

/// A request or an answer, whose body has a length.
async fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&read[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        if read.len() >= end + 4 + length.unwrap_or(0usize) {
            return Some(read);
        }
    }
}
