//! What a server says of itself, held against what the bus needs.

use alluvium_model::BusError;
use async_nats::ServerInfo;

/// The oldest server that does what the bus relies on.
const OLDEST: Version = Version(2, 9, 0);
/// From here on a server can be told to sync each write before it acknowledges.
const SYNCS: Version = Version(2, 10, 0);
/// What a message of the size that pages are cut into takes at most, with its headers.
pub(super) const LEAST_PAYLOAD: usize = alluvium_wire::MESSAGE_BYTES + (64 << 10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u64, u64, u64);

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let plain = text.split(['-', '+']).next()?;
        let mut parts = plain.split('.').map(|part| part.parse().ok());
        let mut next = || parts.next().flatten();
        Some(Self(next()?, next()?, next()?))
    }
}

/// Refuses a server that cannot carry the bus, and says aloud what an old one does otherwise.
pub(super) fn check(info: &ServerInfo, replicas: usize) -> Result<(), BusError> {
    let refused = |text: String| Err(BusError::Refused(text));
    let said = &info.version;
    let Some(version) = Version::parse(said) else {
        return refused(format!("NATS says that its version is `{said}`, which is none"));
    };
    if version < OLDEST {
        return refused(format!("NATS is of version {said}; 2.9.0 or newer is needed"));
    }
    if !info.headers {
        return refused("NATS takes no headers: remove `no_header_support`".to_owned());
    }
    if info.max_payload < LEAST_PAYLOAD {
        let have = info.max_payload;
        return refused(format!(
            "NATS takes messages of up to {have} bytes; set its `max_payload` to at least \
             {LEAST_PAYLOAD}, better to its default of 1 MiB"
        ));
    }
    tracing::info!(version = %said, server = %info.server_name, "connected to NATS");
    if replicas == 1 {
        tracing::warn!(version = %said, "{}", unsynced(version));
    }
    Ok(())
}

/// What an acknowledgement of a stream without replicas is worth.
fn unsynced(version: Version) -> &'static str {
    if version < SYNCS {
        "streams have one replica, and this server acknowledges before its disk is synced: a power \
         cut may lose up to two minutes. Take bus.nats.replicas = 3, or a server from 2.10 on with \
         `sync_interval: always`"
    } else {
        "streams have one replica: without `sync_interval: always` in the server's `jetstream` \
         block it acknowledges before its disk is synced, and a power cut may lose up to two minutes"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(version: &str) -> ServerInfo {
        ServerInfo {
            version: version.to_owned(),
            headers: true,
            max_payload: 1 << 20,
            ..ServerInfo::default()
        }
    }

    #[test]
    fn a_version_is_read_with_and_without_its_ornaments() {
        for (text, expected) in [
            ("2.9.10", Some(Version(2, 9, 10))),
            ("v2.10.0-beta.4", Some(Version(2, 10, 0))),
            ("2.11.1+build", Some(Version(2, 11, 1))),
            ("2.9", None),
            ("", None),
            ("two", None),
        ] {
            assert_eq!(Version::parse(text), expected, "{text}");
        }
        assert!(Version(2, 10, 0) > Version(2, 9, 99));
    }

    #[test]
    fn an_old_server_is_refused_by_its_version() {
        for fine in ["2.9.0", "2.9.10", "2.10.22", "3.0.0"] {
            assert!(check(&info(fine), 3).is_ok(), "{fine}");
        }
        for (old, said) in [("2.8.4", "2.9.0 or newer"), ("1.4.1", "2.9.0 or newer"), ("x", "none")]
        {
            let error = check(&info(old), 3).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
    }

    #[test]
    fn a_server_that_takes_too_little_is_refused() {
        let small = ServerInfo { max_payload: 64 << 10, ..info("2.9.10") };
        assert!(check(&small, 1).unwrap_err().to_string().contains("max_payload"));
        let bare = ServerInfo { headers: false, ..info("2.9.10") };
        assert!(check(&bare, 1).unwrap_err().to_string().contains("no_header_support"));
    }

    #[test]
    fn what_a_server_cannot_do_is_said_with_what_to_do_instead() {
        assert!(unsynced(Version(2, 9, 10)).contains("server from 2.10"));
        assert!(unsynced(Version(2, 10, 0)).contains("sync_interval"));
    }
}
