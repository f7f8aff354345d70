//! A line between a client of S3 and its store on which things go wrong as told.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The store does it, and its answer is lost.
    LoseAnswer,
    /// The store does it without its conditions: as one that does not know them.
    DropConditions,
    /// It never reaches the store. This is answered: a status, and a body.
    Answer(u16, String),
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
        Self { port, shared }
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes one request on, and its answer back. A connection carries no more than one.
fn pass(
    client: &TcpStream,
    upstream: u16,
    shared: &Mutex<Shared>,
    turns: &Mutex<()>,
) -> io::Result<()> {
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
    let Some(first) = head.first() else { return Ok(()) };
    shared.lock().unwrap_or_else(PoisonError::into_inner).heads.push(head.concat());
    let mut words = first.split(' ');
    let (method, address) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let fault = shared.lock().unwrap_or_else(PoisonError::into_inner).meet(method, address);
    if let Some(Fault::Answer(status, text)) = &fault {
        let (size, mut writer) = (text.len(), client);
        write!(writer, "HTTP/1.1 {status} X\r\ncontent-length: {size}\r\n")?;
        write!(writer, "connection: close\r\n\r\n{text}")?;
        return client.shutdown(Shutdown::Both);
    }
    let without: &[&str] = match fault {
        Some(Fault::DropConditions) => &["connection:", "if-none-match:", "if-match:"],
        _ => &["connection:"],
    };
    head.retain(|line| !without.iter().any(|name| line.to_lowercase().starts_with(name)));
    // One at a time: what the store's own threads do to each other is not what is tested.
    let turn = turns.lock().unwrap_or_else(PoisonError::into_inner);
    let mut store = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream))?;
    store.write_all(head.concat().as_bytes())?;
    store.write_all(b"connection: close\r\n\r\n")?;
    store.write_all(&body)?;
    let mut answer = Vec::new();
    store.read_to_end(&mut answer)?;
    drop(turn);
    if fault != Some(Fault::LoseAnswer) {
        let mut writer = client;
        writer.write_all(&answer)?;
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
