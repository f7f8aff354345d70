//! Addresses of the web and of databases: whether a text is one, and whether it tells more than it
//! may.

use crate::nearest::suggestion;

/// What may stand behind the `?` of a database's address, `password` excepted. The driver tells what
/// it does not know in the log, with its value, and that may be a password by another name.
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "application_name",
    "options",
    "host",
    "hostaddr",
    "port",
    "user",
    "dbname",
    "statement-cache-capacity",
];
/// Other names that the driver has for some of them.
const ALIASES: [&str; 5] = ["ssl-mode", "ssl-root-cert", "ssl-ca", "ssl-cert", "ssl-key"];

/// What libpq takes besides, and addresses of hosted databases come with. The driver says that it does
/// not heed them, and goes on.
const UNHEEDED: [&str; 5] = [
    "channel_binding",
    "connect_timeout",
    "gssencmode",
    "load_balance_hosts",
    "target_session_attrs",
];

/// What is wrong with the address of a web API. References to secrets may stand in it.
pub(crate) fn wrong(address: &str) -> Option<&'static str> {
    if address.starts_with("${") {
        return None; // what stands for the beginning is not known yet
    }
    let Some((scheme, rest)) = address.split_once("://") else {
        return Some("this is no address of the web");
    };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Some("only addresses of http and https are asked");
    }
    wrong_host(host(rest))
}

/// What is wrong with the address of a PostgreSQL database.
pub(crate) fn wrong_database(address: &str) -> Option<String> {
    let Some((scheme, rest)) = address.split_once("://") else {
        return Some("this is no address of a database".to_owned());
    };
    if !["postgres", "postgresql"].contains(&scheme) {
        return Some("only databases of PostgreSQL are asked".to_owned());
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let user = authority(rest).rsplit_once('@').map_or("", |(user, _)| user);
    // One that was not escaped may reach into the query.
    let is_told = |part: &str| part.starts_with("password=") || part.contains('@');
    if user.contains(':') || query.split('&').any(is_told) {
        return Some("an address must not hold a password".to_owned());
    }
    if let Some(problem) = wrong_parameter(query) {
        return Some(problem);
    }
    // A socket in the file system stands in the query.
    let socket = host(rest).is_empty() && query.split('&').any(|part| part.starts_with("host="));
    let problem = match path.split_once('/') {
        Some((_, database)) if !database.is_empty() && socket => None,
        Some((_, database)) if !database.is_empty() => wrong_host(host(rest)),
        _ => Some("this address has no database"),
    };
    problem.map(str::to_owned)
}

/// Names the first parameter that is not known, and never what it is set to.
fn wrong_parameter(query: &str) -> Option<String> {
    let mut parts = query.split('&').filter(|part| !part.is_empty());
    parts.find_map(|part| match part.split_once('=') {
        Some((key, _)) if is_parameter(key) => None,
        Some((key, _)) => {
            let known = suggestion(key, "known are", PARAMETERS).unwrap_or_default();
            Some(format!("`{key}` is no parameter of this address; {known}"))
        }
        None => {
            Some("behind the `?` of this address stands what is no `parameter=value`".to_owned())
        }
    })
}

fn is_parameter(key: &str) -> bool {
    let is_option = key.strip_prefix("options[").is_some_and(|rest| rest.ends_with(']'));
    is_option || PARAMETERS.contains(&key) || ALIASES.contains(&key) || UNHEEDED.contains(&key)
}

fn host(rest: &str) -> &str {
    let authority = authority(rest);
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

fn wrong_host(host: &str) -> Option<&'static str> {
    if host.contains("${") {
        return None;
    }
    let (name, port) = split_port(host);
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || "<>\"^`{|}%[]".contains(c)) {
        return Some("this address has no host");
    }
    match port {
        Some(port) if port.parse::<u16>().is_err() => Some("this address has no such port"),
        _ => None,
    }
}

/// Whether a text is an address with a user or a password in it.
pub(crate) fn has_user(text: &str) -> bool {
    text.split_once("://").is_some_and(|(_, rest)| authority(rest).contains('@'))
}

/// What stands between the scheme and the path.
fn authority(rest: &str) -> &str {
    // A reference holds slashes of its own: ${file:/run/secrets/host}.
    let mut in_reference = false;
    let end = rest.find(|c: char| {
        match c {
            '{' => in_reference = true,
            '}' => in_reference = false,
            _ => {}
        }
        !in_reference && matches!(c, '/' | '?' | '#' | '\\')
    });
    &rest[..end.unwrap_or(rest.len())]
}

/// A host's name without the brackets of an IPv6 address, and its port.
fn split_port(host: &str) -> (&str, Option<&str>) {
    if let Some((name, after)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        return (name, after.strip_prefix(':').or((!after.is_empty()).then_some(after)));
    }
    match host.rsplit_once(':') {
        Some((name, "")) => (name, None),
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_web_are_taken() {
        for address in [
            "https://api.example.com/v1?a=b@c",
            "HTTP://localhost:8080",
            "http://[::1]:80/x",
            "http://127.0.0.1:9",
            "https://møre.no/",
            "${env:API}/v1",
            "https://${file:/run/secrets/host}:8080/v1",
            "https://me:secret@api.example.com",
        ] {
            assert_eq!(wrong(address), None, "{address}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        for (address, told) in [
            ("ftp://example.com", "http and https"),
            ("file:///etc/passwd", "http and https"),
            ("example.com/v1", "no address"),
            ("", "no address"),
            ("http://", "no host"),
            ("https:///v1", "no host"),
            ("http://a b/", "no host"),
            ("http://host:99999/", "no such port"),
            ("http://[::1]x/", "no such port"),
        ] {
            let said = wrong(address).unwrap_or_default();
            assert!(said.contains(told), "{address}: {said}");
        }
    }

    #[test]
    fn a_database_is_named_without_a_password() {
        for address in [
            "postgres://alluvium@db.example:5432/ledger?sslmode=verify-full",
            "postgresql://[::1]/ledger",
            "postgres:///ledger?host=/run/postgresql",
            "postgres://db/ledger?",
            "postgres://me@db/ledger?sslmode=require&channel_binding=require&connect_timeout=9",
            "postgres://db/ledger?ssl-mode=require&options[search_path]=a&options=-c%20x=1",
        ] {
            assert_eq!(wrong_database(address), None, "{address}");
        }
        for (address, told) in [
            ("mysql://db/ledger", "PostgreSQL"),
            ("/var/lib/ledger.db", "no address"),
            ("postgres://me:hunter2@db/ledger", "password"),
            ("postgres://me@db/ledger?password=hunter2", "password"),
            ("postgres://me:hunt?er=2@db/ledger", "password"),
            ("postgres://me@db", "no database"),
            ("postgres://me@db/", "no database"),
            ("postgres://me@/ledger", "no host"),
            ("postgres://me@db:99999/ledger", "no such port"),
        ] {
            let said = wrong_database(address).unwrap_or_default();
            assert!(said.contains(told), "{address}: {said}");
        }
    }

    #[test]
    fn a_parameter_that_the_driver_does_not_know_is_named_without_its_value() {
        for (parameters, told) in [
            ("sslpassword=hunter2", "`sslpassword`"),
            ("sslmode=require&passwd=hunter2", "`passwd`"),
            ("pass%77ord=hunter2", "`pass%77ord`"),
            ("Password=hunter2", "`Password`"),
            ("sslmod=hunter2", "did you mean `sslmode`?"),
            ("zz=hunter2", "known are: "),
            ("options[a=hunter2", "`options[a`"),
            ("hunter2", "no `parameter=value`"),
        ] {
            let said = wrong_database(&format!("postgres://me@db/ledger?{parameters}"));
            let said = said.unwrap_or_default();
            assert!(said.contains(told) && !said.contains("hunter2"), "{parameters}: {said}");
        }
    }

    #[test]
    fn a_user_is_found_only_where_one_stands() {
        for address in ["https://me@x/", "ftp://me:secret@x", "https://${env:USER}:${env:P}@x"] {
            assert!(has_user(address), "{address}");
        }
        for address in ["https://x/@me", "https://x?mail=a@b", "me@example.com", "x://y"] {
            assert!(!has_user(address), "{address}");
        }
    }
}
