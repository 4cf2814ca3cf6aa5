//! HTTP by hand, for what a client library would tidy up.
use crate::world::World;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// All that was answered on one connection.
pub struct Answers {
    text: String,
    /// By the mediator, within the time that `say` waits.
    pub is_closed: bool,
}

/// Far more than the mediator takes for anything here, and than a busy machine adds.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes the parts, a moment apart, and reads until the mediator closes the connection.
pub async fn say(world: &World, parts: &[&[u8]]) -> Answers {
    let mut stream = TcpStream::connect(world.settings.server.listen).await.expect("connected");
    let mut bytes = Vec::new();
    let (mut reader, mut writer) = stream.split();
    let write = async {
        for part in parts {
            // It may have closed already: what it said is what counts.
            if writer.write_all(part).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (_, read) = tokio::join!(write, tokio::time::timeout(PATIENCE, reader.read_to_end(&mut bytes)));
    Answers { text: String::from_utf8_lossy(&bytes).into_owned(), is_closed: read.is_ok() }
}

impl Answers {
    /// Of the first answer; 0: there was none.
    pub fn status(&self) -> u16 {
        self.statuses().first().copied().unwrap_or_default()
    }

    pub fn statuses(&self) -> Vec<u16> {
        let heads = self.text.split("HTTP/1.1 ").skip(1);
        heads.filter_map(|head| head.get(..3)?.parse().ok()).collect()
    }

    pub fn header(&self, name: &str) -> &str {
        let mut lines =
            self.text.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
    }

    pub fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}
