//! A line between clients of NATS and their server that holds what one of them sends, until it is let
//! go.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::NatsServer;

/// How it goes with what is to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Awaited,
    Held,
    LetGo,
}

struct Shared {
    word: &'static [u8],
    stage: Mutex<Stage>,
    changed: Condvar,
}

/// The line. It ends with the test's process.
pub struct NatsLine {
    port: u16,
    shared: Arc<Shared>,
}

impl NatsLine {
    /// A line to this server. The first message with `word` in it does not arrive by itself, and
    /// nothing that its sender says after it. What others say passes, with the word in it or not.
    pub fn to(server: &NatsServer, word: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (port, upstream) = (listener.local_addr().unwrap().port(), server.port());
        let (stage, changed) = (Mutex::new(Stage::Awaited), Condvar::new());
        let shared = Arc::new(Shared { word: word.as_bytes(), stage, changed });
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A server that is not there closes the line.
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)) else {
                    continue;
                };
                let (back, to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                let state = Arc::clone(&state);
                std::thread::spawn(move || drop(state.pass(client, server)));
                std::thread::spawn(move || drop(answer(back, to)));
            }
        });
        Self { port, shared }
    }

    /// Where it listens, such as `nats://127.0.0.1:4222`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Waits until the message is held; panics after so many seconds.
    pub fn wait(&self, seconds: u64) {
        let stage = self.shared.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let (awaited, limit) =
            (|at: &mut Stage| *at == Stage::Awaited, Duration::from_secs(seconds));
        let (stage, told) = self.shared.changed.wait_timeout_while(stage, limit, awaited).unwrap();
        drop(stage);
        assert!(!told.timed_out(), "what is to be held did not come within {seconds} s");
    }

    /// Lets it go on.
    pub fn let_go(&self) {
        self.shared.come_to(Stage::LetGo);
    }
}

impl Shared {
    fn come_to(&self, stage: Stage) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
        self.changed.notify_all();
    }

    /// Passes on what a client says.
    fn pass(&self, mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
        let (mut last, mut buffer) = (Vec::new(), [0; 16 << 10]);
        loop {
            let read = client.read(&mut buffer)?;
            if read == 0 {
                return server.shutdown(Shutdown::Write);
            }
            // It may be torn: without its end the server does nothing with a message.
            last.extend_from_slice(&buffer[..read]);
            if last.windows(self.word.len()).any(|part| part == self.word) {
                self.hold();
            }
            let old = last.len().saturating_sub(self.word.len() - 1);
            last.drain(..old);
            server.write_all(&buffer[..read])?;
        }
    }

    fn hold(&self) {
        let mut stage = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        if *stage != Stage::Awaited {
            return;
        }
        *stage = Stage::Held;
        self.changed.notify_all();
        let held = |at: &mut Stage| *at == Stage::Held;
        drop(self.changed.wait_while(stage, held));
    }
}

/// Passes on what the server answers.
fn answer(mut server: TcpStream, mut client: TcpStream) -> io::Result<()> {
    io::copy(&mut server, &mut client)?;
    client.shutdown(Shutdown::Both)
}
