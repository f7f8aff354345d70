//! A line to a server that holds a request back until it is told to let it pass.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// No request is held.
const NONE: usize = usize::MAX;

/// The line. It ends with the test's runtime.
pub(crate) struct Gate {
    /// Where it listens.
    pub(crate) url: String,
    state: Arc<State>,
}

struct State {
    /// What is in the requests that are held.
    word: &'static str,
    /// How many of them pass before one is held.
    passing: AtomicUsize,
    held: Notify,
    released: Notify,
}

impl Gate {
    /// A line to a server of NATS.
    pub(crate) async fn to(url: &str, word: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let own = format!("nats://{}", listener.local_addr().unwrap());
        let (passing, held, released) = (AtomicUsize::new(NONE), Notify::new(), Notify::new());
        let state = Arc::new(State { word, passing, held, released });
        let server = url.strip_prefix("nats://").unwrap().to_owned();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(pass(client, server, Arc::clone(&shared)));
            }
        });
        Self { url: own, state }
    }

    /// Holds a request after so many others have passed.
    pub(crate) fn hold_after(&self, others: usize) {
        self.state.passing.store(others, Ordering::SeqCst);
    }

    /// Waits until a request is held.
    pub(crate) async fn held(&self) {
        self.state.held.notified().await;
    }

    /// Lets it pass, and all after it.
    pub(crate) fn release(&self) {
        self.state.released.notify_one();
    }
}

impl State {
    async fn meet(&self, said: &[u8]) {
        if !said.windows(self.word.len()).any(|part| part == self.word.as_bytes()) {
            return;
        }
        match self.passing.load(Ordering::SeqCst) {
            NONE => {}
            0 => {
                self.passing.store(NONE, Ordering::SeqCst);
                self.held.notify_one();
                self.released.notified().await;
            }
            others => self.passing.store(others - 1, Ordering::SeqCst),
        }
    }
}

/// Passes on what both sides say. The client says one request at a time.
async fn pass(client: TcpStream, server: TcpStream, state: Arc<State>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move {
        tokio::io::copy(&mut from_server, &mut to_client).await.ok();
    });
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
        let said = &bytes[..count];
        state.meet(said).await;
        if to_server.write_all(said).await.is_err() {
            return;
        }
    }
}
