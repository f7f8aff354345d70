//! Who may ask for what, while nobody is asked who they are.
//!
//! A web page in a browser on this machine can send requests to loopback too. Two things give it
//! away: it calls us by a name of its own (bent to our address), or its browser says where it comes
//! from.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::error::ApiError;

/// Lets a request pass, or tells why not.
pub(crate) async fn check(
    State(hosts): State<Arc<[String]>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let refuse = |message| Err(ApiError::new(StatusCode::FORBIDDEN, message));
    let host = header(request.headers(), header::HOST.as_str());
    if !host.is_some_and(|host| is_ours(name_of(host), &hosts)) {
        return refuse("this host is not called so; add the name to the settings if it is");
    }
    if !request.method().is_safe() {
        if !peer.ip().to_canonical().is_loopback() {
            return refuse("this is done for callers on the same machine only");
        }
        if !is_same_origin(request.headers()) {
            return refuse("this is not done for a page of another site");
        }
    }
    Ok(next.run(request).await)
}

/// An address cannot be bent to another.
fn is_ours(name: &str, hosts: &[String]) -> bool {
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    literal.parse::<IpAddr>().is_ok() || hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}

/// What is no browser says nothing of where it comes from.
fn is_same_origin(headers: &HeaderMap) -> bool {
    if headers.contains_key("sec-fetch-site") {
        let site = header(headers, "sec-fetch-site");
        if !matches!(site, Some("same-origin" | "none")) {
            return false;
        }
    }
    if !headers.contains_key(header::ORIGIN) {
        return true;
    }
    let origin = header(headers, header::ORIGIN.as_str());
    let of = origin.and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    of.is_some() && of == header(headers, header::HOST.as_str())
}

/// A header that is there exactly once and is text.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// The host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()));
        pairs.collect()
    }

    #[test]
    fn we_are_called_by_an_address_localhost_or_a_configured_name() {
        let hosts = vec!["localhost".to_owned(), "lake.example".to_owned()];
        for ours in ["localhost:7411", "127.0.0.1", "[::1]:80", "10.0.0.7:7411", "LAKE.example"] {
            assert!(is_ours(name_of(ours), &hosts), "{ours}");
        }
        for foreign in ["evil.example", "localhost.evil.example:7411", "127.0.0.1.nip.io", ""] {
            assert!(!is_ours(name_of(foreign), &hosts), "{foreign}");
        }
    }

    #[test]
    fn a_browser_must_come_from_our_own_pages() {
        assert!(is_same_origin(&headers(&[("host", "localhost:1")])));
        let own = [("host", "localhost:1"), ("origin", "http://localhost:1")];
        assert!(is_same_origin(&headers(&own)));
        for origin in ["http://localhost:2", "https://evil.example", "null"] {
            assert!(!is_same_origin(&headers(&[("host", "localhost:1"), ("origin", origin)])));
        }
        for (site, fine) in [("same-origin", true), ("none", true), ("cross-site", false)] {
            let sent = headers(&[("host", "localhost:1"), ("sec-fetch-site", site)]);
            assert_eq!(is_same_origin(&sent), fine, "{site}");
        }
    }
}
