//! Where a bus is moved to, as the command line says it, and the settings that say the same.

use std::fmt;
use std::str::FromStr;

/// A bus, by its address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The folder that the settings name.
    Embedded,
    /// The servers of a cluster of NATS, each with its scheme.
    Nats(Vec<String>),
    /// Brokers of a cluster of Kafka to begin with.
    Kafka(Vec<String>),
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        let Some((scheme, rest)) = text.split_once("://") else { return Err(shape()) };
        match scheme {
            "nats" | "tls" => {
                let other = format!("{scheme}://");
                let bare = |host: &str| host.strip_prefix(&other).unwrap_or(host).to_owned();
                let hosts = hosts(rest.split(',').map(bare))?;
                Ok(Self::Nats(hosts.iter().map(|host| format!("{other}{host}")).collect()))
            }
            "kafka" => hosts(rest.split(',').map(str::to_owned)).map(Self::Kafka),
            _ => Err(shape()),
        }
    }
}

fn shape() -> String {
    "write embedded, nats://HOST:PORT, tls://HOST:PORT or kafka://HOST:PORT; several with commas \
     between them"
        .to_owned()
}

/// Checks hosts, each with its port.
fn hosts(hosts: impl Iterator<Item = String>) -> Result<Vec<String>, String> {
    let hosts: Vec<String> =
        hosts.map(|host| host.trim().trim_end_matches('/').to_owned()).collect();
    if hosts.iter().any(|host| host.contains('@')) {
        return Err("credentials do not stand in an address: give them in the settings, such as \
                    bus.nats.credentials or bus.kafka.password"
            .to_owned());
    }
    let wrong = |host: &String| {
        host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/' || c.is_control())
    };
    match hosts.iter().any(wrong) {
        true => Err(shape()),
        false => Ok(hosts),
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Nats(servers) => f.write_str(&servers.join(",")),
            Self::Kafka(brokers) => write!(f, "kafka://{}", brokers.join(",")),
        }
    }
}

impl Destination {
    /// The settings that name this bus: dotted key and value.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let (kind, address) = match self {
            Self::Embedded => ("embedded", None),
            Self::Nats(servers) => ("nats", Some(("bus.nats.servers", servers))),
            Self::Kafka(brokers) => ("kafka", Some(("bus.kafka.bootstrap_servers", brokers))),
        };
        let address = address.map(|(key, hosts)| (key.to_owned(), hosts.join(",")));
        std::iter::once(("bus.type".to_owned(), kind.to_owned())).chain(address).collect()
    }

    /// The section of the settings that is this bus's own.
    pub(crate) fn section(&self) -> &'static str {
        match self {
            Self::Embedded => "bus.embedded",
            Self::Nats(_) => "bus.nats",
            Self::Kafka(_) => "bus.kafka",
        }
    }

    /// What is to stand in `alluvium.toml`, with what else was `given` of this bus's own settings.
    pub(crate) fn toml(&self, given: &[(String, String)]) -> String {
        let own = format!("{}.", self.section());
        let mut lines = Vec::new();
        let (first, rest) = match self {
            Self::Embedded => ("embedded", None),
            Self::Nats(servers) => ("nats", Some(format!("servers = {servers:?}"))),
            Self::Kafka(brokers) => {
                ("kafka", Some(format!("bootstrap_servers = {:?}", brokers.join(","))))
            }
        };
        lines.extend(rest);
        lines.extend(given.iter().filter_map(|(key, value)| {
            let name = key.strip_prefix(&own)?;
            let bare = value.parse::<i64>().is_ok() || matches!(value.as_str(), "true" | "false");
            Some(if bare { format!("{name} = {value}") } else { format!("{name} = {value:?}") })
        }));
        let mut toml = format!("[bus]\ntype = {first:?}\n");
        if !lines.is_empty() {
            toml.push_str(&format!("\n[{}]\n{}\n", self.section(), lines.join("\n")));
        }
        toml
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(text: &str) -> Result<Destination, String> {
        text.parse()
    }

    #[test]
    fn a_destination_is_said_as_it_is_read() {
        for text in [
            "embedded",
            "nats://127.0.0.1:4222",
            "tls://a.example:4222,tls://b.example:4222",
            "kafka://a:9092,b:9092",
        ] {
            assert_eq!(to(text).unwrap().to_string(), text);
        }
        assert_eq!(to("nats://a:1,b:2/").unwrap(), to("nats://a:1,nats://b:2").unwrap());
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_would_be_one() {
        for text in ["", "nats", "nats://", "http://a:1", "kafka://a:1,,b:2", "nats://a:1/x"] {
            assert!(to(text).unwrap_err().contains("nats://HOST:PORT"), "{text}");
        }
        let told = to("nats://me:secret@a:4222").unwrap_err();
        assert!(told.contains("credentials") && !told.contains("secret"), "{told}");
    }

    #[test]
    fn the_settings_to_write_are_those_that_were_moved_with() {
        let given = [
            ("bus.nats.prefix".to_owned(), "house".to_owned()),
            ("bus.nats.replicas".to_owned(), "3".to_owned()),
            ("http.enabled".to_owned(), "false".to_owned()),
        ];
        let nats = to("nats://a:4222,b:4222").unwrap();
        assert_eq!(
            nats.toml(&given),
            "[bus]\ntype = \"nats\"\n\n[bus.nats]\nservers = [\"nats://a:4222\", \
             \"nats://b:4222\"]\nprefix = \"house\"\nreplicas = 3\n"
        );
        assert_eq!(nats.settings()[1].1, "nats://a:4222,nats://b:4222");
        assert_eq!(to("embedded").unwrap().toml(&given), "[bus]\ntype = \"embedded\"\n");
    }
}
