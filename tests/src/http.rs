//! A server on this machine whose answers the test decides, and a client that asks for one page.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alluvium_testkit::Gate;

/// What a request is answered with.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A status, a content type and a body.
    Whole(u16, &'static str, String),
    /// A length is promised, half of it is sent, and the connection is closed.
    Half(String),
    /// Nothing, until the asker goes.
    Hang,
    /// The same, once the gate is open; the gate tells 200 when it is on its way.
    Held(Gate, Box<Answer>),
}

impl Answer {
    /// A good answer.
    pub fn json(body: impl ToString) -> Self {
        Self::Whole(200, "application/json", body.to_string())
    }
}

/// The server. It ends with the test's process.
pub struct Server {
    port: u16,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    answer: Box<dyn Fn(&str) -> Answer + Send>,
    asked: Vec<String>,
}

impl Server {
    /// A server that answers everything with `answer`.
    pub fn new(answer: Answer) -> Self {
        Self::answering(move |_| answer.clone())
    }

    /// A server that answers by what it is asked for: a path with its query.
    pub fn answering(answer: impl Fn(&str) -> Answer + Send + 'static) -> Self {
        let answer: Box<dyn Fn(&str) -> Answer + Send> = Box::new(answer);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(Shared { answer, asked: Vec::new() }));
        let state = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || answer_one(stream, &state));
            }
        });
        Self { port, shared }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers with this from now on.
    pub fn answer(&self, answer: Answer) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).answer =
            Box::new(move |_| answer.clone());
    }

    /// The first lines of all requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).asked.clone()
    }
}

/// Reads a request and answers it. Errors are the asker's: it may go whenever it likes.
fn answer_one(stream: TcpStream, shared: &Mutex<Shared>) {
    let mut reader = BufReader::new(&stream);
    let (mut first, mut line) = (String::new(), String::new());
    drop(reader.read_line(&mut first));
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        line.clear();
    }
    let answer = {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.asked.push(first.trim().to_owned());
        (shared.answer)(first.split(' ').nth(1).unwrap_or_default())
    };
    let (answer, gate) = match answer {
        Answer::Held(gate, answer) => (*answer, Some(gate)),
        answer => (answer, None),
    };
    if let Some(gate) = &gate {
        gate.pass(first.trim());
    }
    let head = |status: u16, kind: &str, length: usize| {
        format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n"
        )
    };
    let mut writer = &stream;
    match answer {
        Answer::Whole(status, kind, body) => {
            drop(writer.write_all((head(status, kind, body.len()) + &body).as_bytes()));
        }
        Answer::Half(body) => {
            let text = head(200, "application/json", body.len());
            drop(writer.write_all(text.as_bytes()));
            drop(writer.write_all(&body.as_bytes()[..body.len() / 2]));
        }
        Answer::Hang | Answer::Held(..) => {
            drop(reader.read(&mut [0]));
        }
    }
    if let Some(gate) = gate {
        gate.passed(200);
    }
    drop(stream.shutdown(Shutdown::Both));
}

/// Asks for a page: status and body, if there is an answer.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    get_from(port, path, &format!("127.0.0.1:{port}"))
}

/// The same, with the host called so.
pub fn get_from(port: u16, path: &str, host: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
