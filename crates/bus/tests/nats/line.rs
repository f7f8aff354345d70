//! A line to the server that stops where a test says, as with a process that hangs in the middle.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(60);

/// The line. It ends with the test's runtime.
pub(crate) struct Line {
    url: String,
    shared: Arc<Shared>,
}

struct Shared {
    /// Before what it stops, and the how manieth of that.
    stop: Mutex<Option<(Vec<u8>, usize)>>,
    stands: watch::Sender<bool>,
}

impl Line {
    /// A line to the server at `url`.
    pub(crate) async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { stop: Mutex::default(), stands: watch::Sender::new(false) });
        let (server, state) = (url.trim_start_matches("nats://").to_owned(), Arc::clone(&shared));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                tokio::spawn(pass(from_client, to_server, Arc::clone(&state)));
                tokio::spawn(
                    async move { tokio::io::copy(&mut from_server, &mut to_client).await },
                );
            }
        });
        Self { url: format!("nats://127.0.0.1:{port}"), shared }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    /// What the client sends stops before the `nth` of these, from 1 and from now on.
    pub(crate) fn stop_before(&self, what: &str, nth: usize) {
        *self.shared.stop.lock().unwrap() = Some((what.as_bytes().to_vec(), nth));
    }

    /// Waits until it stands.
    pub(crate) async fn has_stopped(&self) {
        let mut stands = self.shared.stands.subscribe();
        let stopped = tokio::time::timeout(PATIENCE, stands.wait_for(|stands| *stands)).await;
        stopped.expect("the client sends it").unwrap();
    }

    /// Lets go on what stands.
    pub(crate) fn go_on(&self) {
        self.shared.stands.send_replace(false);
    }
}

impl Shared {
    /// Where it is to stop in these bytes.
    fn stops_at(&self, bytes: &[u8]) -> Option<usize> {
        let mut stop = self.stop.lock().unwrap();
        let (what, left) = stop.as_mut()?;
        let hits = bytes.windows(what.len()).enumerate().filter(|(_, part)| part == what);
        for (at, _) in hits {
            *left -= 1;
            if *left == 0 {
                *stop = None;
                return Some(at);
            }
        }
        None
    }

    /// How many of the last bytes may be the beginning of that before which it is to stop.
    fn begun(&self, bytes: &[u8]) -> usize {
        let stop = self.stop.lock().unwrap();
        let Some((what, _)) = stop.as_ref() else { return 0 };
        (1..what.len()).rev().find(|count| bytes.ends_with(&what[..*count])).unwrap_or(0)
    }
}

async fn pass(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: Arc<Shared>,
) -> io::Result<()> {
    let (mut kept, mut chunk) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        let count = client.read(&mut chunk).await?;
        if count == 0 {
            return Ok(());
        }
        kept.extend_from_slice(&chunk[..count]);
        while let Some(at) = shared.stops_at(&kept) {
            server.write_all(&kept[..at]).await?;
            kept.drain(..at);
            shared.stands.send_replace(true);
            shared.stands.subscribe().wait_for(|stands| !stands).await.map_err(io::Error::other)?;
        }
        let goes = kept.len() - shared.begun(&kept);
        server.write_all(&kept[..goes]).await?;
        kept.drain(..goes);
    }
}
