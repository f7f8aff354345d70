//! How a client says who it is: SASL's PLAIN and SCRAM, from the side of the brokers.

use std::io;
use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;

use super::frame::broken;

const SALT: &[u8] = b"salt of the tests";
const ROUNDS: NonZeroU32 = NonZeroU32::new(4096).unwrap();
/// What the brokers add to the client's nonce.
const NONCE: &str = "of-the-brokers";

/// How a client logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// It says its password.
    Plain,
    /// It shows that it knows its password, and so do the brokers.
    ScramSha512,
}

impl Mechanism {
    /// As it is called on the line, and in the options of librdkafka.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Who may come in, and how.
#[derive(Debug, Clone)]
pub struct KafkaLogin {
    /// The one way that is offered.
    pub mechanism: Mechanism,
    /// The one name that is known.
    pub user: String,
    /// Its password.
    pub password: String,
}

/// What the brokers answer.
pub(super) enum Verdict {
    /// They want to hear more.
    More(Vec<u8>),
    /// This user is in.
    In(String, Vec<u8>),
    /// This user is not.
    Refused(String),
}

/// One client's way in.
#[derive(Default)]
pub(super) struct Way {
    /// The user, what it and the brokers said first, and the nonce of both.
    scram: Option<(String, String, String)>,
}

impl Way {
    /// Hears what the client says.
    pub(super) fn hear(&mut self, login: &KafkaLogin, said: &[u8]) -> io::Result<Verdict> {
        let said = std::str::from_utf8(said).map_err(|_| broken("a log-in"))?;
        match (login.mechanism, self.scram.take()) {
            (Mechanism::Plain, _) => plain(login, said),
            (Mechanism::ScramSha512, None) => {
                let bare = said.strip_prefix("n,,").ok_or_else(|| broken("SCRAM's first word"))?;
                let nonce = format!("{}{NONCE}", field(bare, "r=")?);
                let answer = format!("r={nonce},s={},i={ROUNDS}", BASE64.encode(SALT));
                let user = field(bare, "n=")?.to_owned();
                self.scram = Some((user, format!("{bare},{answer}"), nonce));
                Ok(Verdict::More(answer.into_bytes()))
            }
            (Mechanism::ScramSha512, Some((user, first, nonce))) => {
                proven(login, user, &first, &nonce, said)
            }
        }
    }
}

fn plain(login: &KafkaLogin, said: &str) -> io::Result<Verdict> {
    let mut parts = said.splitn(3, '\0').skip(1);
    let (Some(user), Some(password)) = (parts.next(), parts.next()) else {
        return Err(broken("a log-in"));
    };
    Ok(match (user, password) == (&login.user, &login.password) {
        true => Verdict::In(user.to_owned(), Vec::new()),
        false => Verdict::Refused(user.to_owned()),
    })
}

/// Checks SCRAM's last word, and says the brokers' own (RFC 5802).
fn proven(
    login: &KafkaLogin,
    user: String,
    first: &str,
    nonce: &str,
    said: &str,
) -> io::Result<Verdict> {
    let (last, proof) = said.split_once(",p=").ok_or_else(|| broken("SCRAM's proof"))?;
    let proof = BASE64.decode(proof).map_err(|_| broken("SCRAM's proof"))?;
    let mut salted = [0; digest::SHA512_OUTPUT_LEN];
    let password = login.password.as_bytes();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, ROUNDS, SALT, password, &mut salted);
    let sign = |key: &[u8], text: &str| {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, key), text.as_bytes())
    };
    let all = format!("{first},{last}");
    let key = sign(&salted, "Client Key");
    let stored = digest::digest(&digest::SHA512, key.as_ref());
    let signature = sign(stored.as_ref(), &all);
    let right: Vec<u8> =
        key.as_ref().iter().zip(signature.as_ref()).map(|(key, signed)| key ^ signed).collect();
    if user != login.user || field(last, "r=")? != nonce || proof != right {
        return Ok(Verdict::Refused(user));
    }
    let shown = sign(sign(&salted, "Server Key").as_ref(), &all);
    Ok(Verdict::In(user, format!("v={}", BASE64.encode(shown)).into_bytes()))
}

/// The part of a message of SCRAM that begins so.
fn field<'a>(said: &'a str, name: &str) -> io::Result<&'a str> {
    let found = said.split(',').find_map(|part| part.strip_prefix(name));
    found.ok_or_else(|| broken("a message of SCRAM"))
}
