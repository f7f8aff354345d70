//! A front before the mock cluster, which speaks plaintext only and lets everybody in: it speaks TLS,
//! and demands a log-in.
//!
//! One call at a time is passed on and answered on each connection, as brokers do it.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::KafkaMock;
use super::frame::{self, Call};
use super::login::{KafkaLogin, Verdict, Way};
use crate::Certificates;

/// Kafka's codes of what is wrong.
const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const SASL_AUTHENTICATION_FAILED: i16 = 58;
/// Who was refused is waited for so long: what he was told reaches him before the line ends.
const FAREWELL: Duration = Duration::from_secs(10);

/// What came of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// It logged in as this user, or called something where no log-in is demanded.
    In(Option<String>),
    /// This user was refused: the password is wrong.
    Refused(String),
    /// Something was called before the log-in, or a log-in was asked for that is not offered.
    Unknown,
    /// TLS failed, because of this.
    NoTls(String),
}

/// How the front speaks TLS.
pub struct KafkaTls<'a> {
    /// The front shows `server`.
    pub certificates: &'a Certificates,
    /// Whether clients must show a certificate for which `ca` vouches.
    pub of_clients_too: bool,
}

impl KafkaTls<'_> {
    fn config(&self) -> ServerConfig {
        let file = |name: &str| {
            let pem = CertificateDer::pem_file_iter(self.certificates.certificate(name)).unwrap();
            pem.map(Result::unwrap)
        };
        let provider = Arc::new(default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = match self.of_clients_too {
            true => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(file("ca"));
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
            false => config.with_no_client_auth(),
        };
        let key = PrivateKeyDer::from_pem_file(self.certificates.key("server")).unwrap();
        config.with_single_cert(file("server").collect(), key).unwrap()
    }
}

/// The front. It ends with the test's process.
pub struct KafkaFront {
    port: u16,
    entries: Arc<Mutex<Vec<Entry>>>,
}

/// What all connections share.
struct Shared {
    /// Where the mock cluster listens, and where the front does.
    ports: (u16, u16),
    tls: Option<Arc<ServerConfig>>,
    login: Option<KafkaLogin>,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl KafkaFront {
    /// A front before what the cluster is now.
    pub fn before(mock: &KafkaMock, tls: Option<KafkaTls<'_>>, login: Option<KafkaLogin>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let behind = mock.servers().rsplit_once(':').unwrap().1.parse().unwrap();
        let entries: Arc<Mutex<Vec<Entry>>> = Arc::default();
        let shared = Arc::new(Shared {
            ports: (behind, port),
            tls: tls.map(|tls| Arc::new(tls.config())),
            login,
            entries: Arc::clone(&entries),
        });
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // Who goes while he is answered is the client's affair.
                std::thread::spawn(move || drop(shared.meet(client)));
            }
        });
        Self { port, entries }
    }

    /// Where it listens, such as `127.0.0.1:9092`.
    pub fn servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What came of the connections, but for those of which nothing came yet.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    fn meet(&self, line: TcpStream) -> io::Result<()> {
        line.set_nodelay(true)?;
        let end = line.try_clone()?;
        let met = match &self.tls {
            None => self.serve(line),
            Some(config) => {
                let tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                self.serve_tls(StreamOwned::new(tls, line))
            }
        };
        farewell(&end);
        met
    }

    fn serve_tls(&self, mut line: StreamOwned<ServerConnection, TcpStream>) -> io::Result<()> {
        while line.conn.is_handshaking() {
            if let Err(error) = line.conn.complete_io(&mut line.sock) {
                // Who only hung up is not counted.
                if error.kind() == io::ErrorKind::InvalidData {
                    self.note(Entry::NoTls(error.to_string()));
                }
                return Err(error);
            }
        }
        self.serve(line)
    }

    fn serve(&self, mut client: impl Read + Write) -> io::Result<()> {
        let mut brokers = TcpStream::connect((Ipv4Addr::LOCALHOST, self.ports.0))?;
        brokers.set_nodelay(true)?;
        let (mut way, mut is_in) = (Way::default(), false);
        loop {
            let asked = frame::read(&mut client)?;
            let call = Call::of(&asked)?;
            match (&self.login, call.key) {
                (_, frame::API_VERSIONS) => {
                    let mut answer = self.ask(&mut brokers, &asked, &call)?;
                    if self.login.is_some() {
                        frame::name_own(&mut answer)?;
                    }
                    frame::write(&mut client, &answer)?;
                }
                (Some(login), _) if !is_in => {
                    is_in = self.let_in(login, &mut way, &call, &mut client)?;
                }
                _ => {
                    if !is_in {
                        self.note(Entry::In(None));
                        is_in = true;
                    }
                    frame::write(&mut client, &self.ask(&mut brokers, &asked, &call)?)?;
                }
            }
        }
    }

    /// Passes a call on; the answer, with the front's address for that of the mock cluster.
    fn ask(&self, brokers: &mut TcpStream, asked: &[u8], call: &Call<'_>) -> io::Result<Vec<u8>> {
        frame::write(brokers, asked)?;
        let mut answer = frame::read(brokers)?;
        if matches!(call.key, frame::METADATA | frame::FIND_COORDINATOR) {
            frame::redirect(&mut answer, self.ports.0, self.ports.1);
        }
        Ok(answer)
    }

    /// Answers a call of who is not in yet. Whether he is in now.
    fn let_in(
        &self,
        login: &KafkaLogin,
        way: &mut Way,
        call: &Call<'_>,
        client: &mut impl Write,
    ) -> io::Result<bool> {
        match (call.key, call.version) {
            (frame::SASL_HANDSHAKE, 0..=1) => {
                let offered = login.mechanism.name();
                let wanted = frame::text(call.body)?.0;
                let fits = wanted == offered.as_bytes();
                let code = if fits { 0 } else { UNSUPPORTED_SASL_MECHANISM };
                let list = [&1_i32.to_be_bytes()[..], &text(offered)].concat();
                let answer = [&code.to_be_bytes()[..], &list].concat();
                let ended = (!fits).then_some(Entry::Unknown);
                self.say(client, &call.answer(&answer), ended)?;
                Ok(false)
            }
            (frame::SASL_AUTHENTICATE, 0..=1) => {
                let verdict = way.hear(login, frame::bytes(call.body)?.0)?;
                let answer = call.answer(&told(call, &verdict));
                let (is_in, ended) = match verdict {
                    Verdict::More(_) => (false, None),
                    Verdict::Refused(user) => (false, Some(Entry::Refused(user))),
                    Verdict::In(user, _) => {
                        self.note(Entry::In(Some(user)));
                        (true, None)
                    }
                };
                self.say(client, &answer, ended)?;
                Ok(is_in)
            }
            _ => {
                self.note(Entry::Unknown);
                Err(io::ErrorKind::ConnectionAborted.into())
            }
        }
    }

    /// Says something to who is not in. If that ends the connection, it is noted before: who hears it
    /// may ask at once what came of him.
    fn say(&self, client: &mut impl Write, said: &[u8], ended: Option<Entry>) -> io::Result<()> {
        let Some(entry) = ended else { return frame::write(client, said) };
        self.note(entry);
        frame::write(client, said)?;
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn note(&self, entry: Entry) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }
}

/// The answer to `SASL_AUTHENTICATE`.
fn told(call: &Call<'_>, verdict: &Verdict) -> Vec<u8> {
    let (code, why, said) = match verdict {
        Verdict::More(said) | Verdict::In(_, said) => (0, None, &said[..]),
        Verdict::Refused(_) => {
            let why = "Authentication failed: Invalid username or password";
            (SASL_AUTHENTICATION_FAILED, Some(why), &[][..])
        }
    };
    let why = why.map_or_else(|| (-1_i16).to_be_bytes().to_vec(), text);
    let length = i32::try_from(said.len()).unwrap();
    let mut answer = [&code.to_be_bytes()[..], &why, &length.to_be_bytes(), said].concat();
    if call.version > 0 {
        // The log-in does not end by itself.
        answer.extend(0_i64.to_be_bytes());
    }
    answer
}

fn text(text: &str) -> Vec<u8> {
    [&i16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

/// Ends a line once the other end has: what still comes is read, or what was said last might be lost.
fn farewell(line: &TcpStream) {
    let said = line.shutdown(Shutdown::Write).and_then(|()| line.set_read_timeout(Some(FAREWELL)));
    let mut rest = line;
    // The other end may be gone already.
    drop(said.and_then(|()| io::copy(&mut rest, &mut io::sink())));
}
