//! A scripted HTTP server for tests: it answers as it is told, also badly. It binds to loopback
//! and ends when it is dropped.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::Url;

/// What the server was asked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query's parameters, decoded.
    pub query: Vec<(String, String)>,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Asked {
    /// The value of a query parameter.
    pub fn param(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// What the server answers.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    manner: Manner,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Whole,
    Half,
    Hang,
    Endless,
}

impl Reply {
    /// Status 200 with a JSON body.
    pub fn json(body: impl Into<String>) -> Self {
        Self::with(200, "application/json", body.into().into_bytes())
    }

    /// Status 200 with an HTML page.
    pub fn html(body: impl Into<String>) -> Self {
        Self::with(200, "text/html", body.into().into_bytes())
    }

    /// A status with an empty body.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), manner: Manner::Whole }
    }

    /// The request is read and never answered.
    pub fn hang() -> Self {
        Self { manner: Manner::Hang, ..Self::status(200) }
    }

    /// Status 200 with a JSON body that never ends.
    pub fn endless() -> Self {
        Self { manner: Manner::Endless, ..Self::json("") }
    }

    /// The headers promise the whole body, but only half of it is sent.
    #[must_use]
    pub fn half(self) -> Self {
        Self { manner: Manner::Half, ..self }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Packs the body.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        self.body = match encoder.write_all(&self.body).and_then(|()| encoder.finish()) {
            Ok(packed) => packed,
            Err(_) => self.body,
        };
        self.header("content-encoding", "gzip")
    }

    fn with(status: u16, kind: &str, body: Vec<u8>) -> Self {
        Self { body, ..Self::status(status) }.header("content-type", kind)
    }
}

type Handler = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A server that listens on a free port of the loopback interface.
pub struct Server {
    url: Url,
    asked: Arc<Mutex<Vec<Asked>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// A server that answers as `handler` says.
    #[allow(clippy::expect_used, reason = "without loopback there is nothing to test")]
    pub async fn start(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback");
        let port = listener.local_addr().expect("a bound listener has an address").port();
        let url = Url::parse(&format!("http://127.0.0.1:{port}/")).expect("a valid address");
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (handler, log): (Arc<Handler>, _) = (Arc::new(handler), asked.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, handler.clone(), log.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { url, asked, _tasks: tasks }
    }

    /// A server that gives these replies one after the other, and the last one for ever.
    pub async fn scripted(replies: impl IntoIterator<Item = Reply>) -> Self {
        let script = Mutex::new(replies.into_iter().collect::<VecDeque<_>>());
        Self::start(move |_| {
            let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
            let next = if script.len() > 1 { script.pop_front() } else { script.front().cloned() };
            next.unwrap_or(Reply::status(500))
        })
        .await
    }

    /// Its address.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, log: Arc<Mutex<Vec<Asked>>>) {
    let Some(asked) = read_request(&mut stream).await else { return };
    log.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
    let reply = handler(&asked);
    // A client that went away is the test's business, not the server's.
    drop(write_reply(&mut stream, &reply).await);
}

async fn read_request(stream: &mut TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).await.ok()?;
    let mut words = line.split_ascii_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let url = Url::parse("http://loopback/").ok()?.join(&target).ok()?;
    let query = url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())).collect();
    let mut asked = Asked { method, path: url.path().to_owned(), query, ..Asked::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        asked.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = asked.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.ok()?;
    asked.body = String::from_utf8_lossy(&body).into_owned();
    Some(asked)
}

async fn write_reply(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    if reply.manner == Manner::Hang {
        // Until the client gives up and closes, or the server is dropped.
        let mut rest = Vec::new();
        return stream.read_to_end(&mut rest).await.map(drop);
    }
    let mut head = format!("HTTP/1.1 {} Scripted\r\nconnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if reply.manner != Manner::Endless && reply.status != 304 && reply.status != 204 {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    match reply.manner {
        Manner::Half => stream.write_all(&reply.body[..reply.body.len() / 2]).await?,
        Manner::Endless => loop {
            stream.write_all(&[b' '; 4096]).await?;
        },
        _ => stream.write_all(&reply.body).await?,
    }
    stream.shutdown().await
}
