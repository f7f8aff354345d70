//! A line between a client of S3 and its store on which things go wrong as told.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use crate::gate::Gate;

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The store does it, and its answer is lost.
    LoseAnswer,
    /// The store does it without its conditions: as one that does not know them.
    DropConditions,
    /// It never reaches the store. This is answered: a status, and a body.
    Answer(u16, String),
    /// It is on its way until the gate opens, whatever becomes of who sent it. What the store
    /// answers then, the gate tells.
    Hold(Gate),
}

/// A rule for requests.
struct Rule {
    method: &'static str,
    part: String,
    times: usize,
    fault: Fault,
}

#[derive(Default)]
struct Shared {
    rules: VecDeque<Rule>,
    seen: Vec<String>,
    heads: Vec<String>,
}

/// The line. It ends with the test's process.
pub struct S3Proxy {
    port: u16,
    upstream: u16,
    shared: Arc<Mutex<Shared>>,
}

impl S3Proxy {
    /// A line to what listens on a port of loopback.
    pub fn to(upstream: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (state, turns) = (Arc::clone(&shared), Arc::<Mutex<()>>::default());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (state, turns) = (Arc::clone(&state), Arc::clone(&turns));
                // Who goes while he is answered is the client's affair.
                std::thread::spawn(move || drop(pass(&client, upstream, &state, &turns)));
            }
        });
        Self { port, upstream, shared }
    }

    /// Where it listens, such as `http://127.0.0.1:9000`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The next so many requests of this method whose address holds `part` meet this.
    pub fn script(&self, method: &'static str, part: &str, times: usize, fault: Fault) {
        let rule = Rule { method, part: part.to_owned(), times, fault };
        self.lock().rules.push_back(rule);
    }

    /// How many requests the rules still wait for.
    pub fn waiting(&self) -> usize {
        self.lock().rules.iter().map(|rule| rule.times).sum()
    }

    /// Method and address of all requests since this was asked last.
    pub fn take_seen(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().seen)
    }

    /// All requests since this was asked last were signed by this key for this region, and bore
    /// this session token.
    #[track_caller]
    pub fn assert_signed(&self, id: &str, region: &str, token: &str) {
        let heads = std::mem::take(&mut self.lock().heads);
        assert!(!heads.is_empty(), "nothing was asked");
        for head in heads {
            let value = |name: &str| {
                let mut lines = head.lines().filter_map(|line| line.split_once(':'));
                let (_, value) = lines.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
                Some(value.trim())
            };
            let time = value("x-amz-date").unwrap_or_default();
            let (day, _) = time.split_once('T').unwrap_or_default();
            let signed = format!("Credential={id}/{day}/{region}/s3/aws4_request,");
            assert!(value("authorization").is_some_and(|by| by.contains(&signed)), "{head}");
            assert_eq!(value("x-amz-security-token"), Some(token), "{head}");
        }
    }

    /// The bytes of the object at this address, if there is one; the store itself is asked.
    pub fn stored(&self, address: &str) -> Option<Vec<u8>> {
        let head = vec![
            format!("GET {address} HTTP/1.0\r\n"),
            format!("host: 127.0.0.1:{}\r\n", self.upstream),
            // Who asks does not matter, but nobody in particular is refused.
            "authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, \
             SignedHeaders=host, Signature=0\r\n"
                .to_owned(),
        ];
        let request = Request { head, body: Vec::new() };
        let answer = request.ask(self.upstream).unwrap();
        let status = status_of(&answer).unwrap();
        assert!([200, 404].contains(&status), "{address} is answered with {status}");
        let body = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
        (status == 200).then(|| answer[body..].to_vec())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request as it came.
struct Request {
    /// Its lines, but for the empty one at their end.
    head: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    /// Reads a request to its end; `None` if there is none.
    fn read(client: &TcpStream) -> io::Result<Option<Self>> {
        let mut reader = BufReader::new(client);
        let (mut head, mut length) = (Vec::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 || line == "\r\n" {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            head.push(line);
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        Ok(Some(Self { head, body }).filter(|request| !request.head.is_empty()))
    }

    /// Its method and its address.
    fn target(&self) -> (String, String) {
        let mut words = self.head.first().map(String::as_str).unwrap_or_default().split(' ');
        let mut word = || words.next().unwrap_or_default().to_owned();
        (word(), word())
    }

    /// Takes header lines out, by how they begin in lower case.
    fn without(&mut self, names: &[&str]) {
        self.head.retain(|line| !names.iter().any(|name| line.to_lowercase().starts_with(name)));
    }

    /// What the store answers, from the first byte to the last.
    fn ask(&self, upstream: u16) -> io::Result<Vec<u8>> {
        let mut store = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream))?;
        store.write_all(self.head.concat().as_bytes())?;
        store.write_all(b"connection: close\r\n\r\n")?;
        store.write_all(&self.body)?;
        let mut answer = Vec::new();
        store.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// The status of an answer.
fn status_of(answer: &[u8]) -> io::Result<u16> {
    let start = String::from_utf8_lossy(&answer[..answer.len().min(32)]).into_owned();
    let status = start.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.ok_or_else(|| io::Error::other(format!("`{start}` is no answer")))
}

/// Passes one request on, and its answer back. A connection carries no more than one.
fn pass(
    mut client: &TcpStream,
    upstream: u16,
    shared: &Mutex<Shared>,
    turns: &Mutex<()>,
) -> io::Result<()> {
    let Some(mut request) = Request::read(client)? else { return Ok(()) };
    let (method, address) = request.target();
    let fault = {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.heads.push(request.head.concat());
        shared.meet(&method, &address)
    };
    request.without(&["connection:"]);
    match &fault {
        Some(Fault::Answer(status, text)) => {
            let size = text.len();
            write!(client, "HTTP/1.1 {status} X\r\ncontent-length: {size}\r\n")?;
            write!(client, "connection: close\r\n\r\n{text}")?;
            return client.shutdown(Shutdown::Both);
        }
        Some(Fault::DropConditions) => request.without(&["if-none-match:", "if-match:"]),
        // It has no turn yet: all others pass.
        Some(Fault::Hold(gate)) => gate.pass(&address),
        Some(Fault::LoseAnswer) | None => {}
    }
    // One at a time: what the store's own threads do to each other is not what is tested.
    let turn = turns.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = request.ask(upstream)?;
    drop(turn);
    if let Some(Fault::Hold(gate)) = &fault {
        gate.passed(status_of(&answer)?);
    }
    if !matches!(fault, Some(Fault::LoseAnswer)) {
        client.write_all(&answer)?;
    }
    client.shutdown(Shutdown::Both)
}

impl Shared {
    fn meet(&mut self, method: &str, address: &str) -> Option<Fault> {
        self.seen.push(format!("{method} {address}"));
        let met = |rule: &&mut Rule| rule.method == method && address.contains(&rule.part);
        let rule = self.rules.iter_mut().find(met)?;
        rule.times -= 1;
        let fault = rule.fault.clone();
        self.rules.retain(|rule| rule.times > 0);
        Some(fault)
    }
}
