//! Kafka's calls and answers as they stand on the line, as far as the front must know them.

use std::io::{self, Read, Write};

pub(super) const METADATA: i16 = 3;
pub(super) const FIND_COORDINATOR: i16 = 10;
pub(super) const SASL_HANDSHAKE: i16 = 17;
pub(super) const API_VERSIONS: i16 = 18;
pub(super) const SASL_AUTHENTICATE: i16 = 36;

/// What the front answers itself: which call, from which version, to which.
const OWN: [[i16; 3]; 2] = [[SASL_HANDSHAKE, 0, 1], [SASL_AUTHENTICATE, 0, 1]];
/// More than any call has: what speaks something else is not waited for.
const LARGEST: usize = 64 << 20;

/// The next frame, without its length.
pub(super) fn read(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > LARGEST {
        return Err(broken("a frame that is too long"));
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

pub(super) fn write(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = i32::try_from(frame.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_be_bytes()[..], frame].concat())?;
    to.flush()
}

/// A call of a client.
pub(super) struct Call<'a> {
    pub(super) key: i16,
    pub(super) version: i16,
    correlation: [u8; 4],
    /// What it holds, where it is of the plain versions: those of the front's own calls are.
    pub(super) body: &'a [u8],
}

impl<'a> Call<'a> {
    pub(super) fn of(frame: &'a [u8]) -> io::Result<Self> {
        let (key, rest) = short(frame)?;
        let (version, rest) = short(rest)?;
        let (correlation, rest) = rest.split_first_chunk().ok_or_else(|| broken("a call"))?;
        let (_client, body) = text(rest)?;
        Ok(Self { key, version, correlation: *correlation, body })
    }

    /// An answer of the front's own.
    pub(super) fn answer(&self, body: &[u8]) -> Vec<u8> {
        [&self.correlation[..], body].concat()
    }
}

/// A number, and what stands behind it.
pub(super) fn short(from: &[u8]) -> io::Result<(i16, &[u8])> {
    let (number, rest) = from.split_first_chunk().ok_or_else(|| broken("a number"))?;
    Ok((i16::from_be_bytes(*number), rest))
}

/// A text that may be missing, and what stands behind it.
pub(super) fn text(from: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let (length, rest) = short(from)?;
    rest.split_at_checked(usize::try_from(length).unwrap_or(0)).ok_or_else(|| broken("a text"))
}

/// Bytes, and what stands behind them.
pub(super) fn bytes(from: &[u8]) -> io::Result<(&[u8], &[u8])> {
    let (length, rest) = from.split_first_chunk().ok_or_else(|| broken("bytes"))?;
    let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
    rest.split_at_checked(length).ok_or_else(|| broken("bytes"))
}

/// Puts the front's own calls among those that the answer to `API_VERSIONS` names.
pub(super) fn name_own(answer: &mut Vec<u8>) -> io::Result<()> {
    let (Some(error), Some(count)) = (answer.get(4..6), answer.get(6..10)) else {
        return Err(broken("the answer to ApiVersions"));
    };
    if error != [0, 0] {
        // Asked for a version that the brokers do not know, they tell no calls.
        return Ok(());
    }
    let count = count.iter().fold(0, |count, byte| count << 8 | i32::from(*byte));
    let own = i32::try_from(OWN.len()).map_err(io::Error::other)?;
    answer.splice(6..10, (count + own).to_be_bytes());
    answer.splice(10..10, OWN.as_flattened().iter().flat_map(|number| number.to_be_bytes()));
    Ok(())
}

/// Puts another port behind each address of loopback with the port `from`.
pub(super) fn redirect(answer: &mut [u8], from: u16, to: u16) {
    let address = |port: u16| [&b"127.0.0.1"[..], &i32::from(port).to_be_bytes()].concat();
    let (from, to) = (address(from), address(to));
    let found: Vec<usize> =
        answer.windows(from.len()).enumerate().filter(|(_, w)| *w == from).map(|f| f.0).collect();
    for at in found {
        answer[at..at + to.len()].copy_from_slice(&to);
    }
}

pub(super) fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} cannot be read"))
}
