//! How long a source asks us to wait: `Retry-After`, and the several shapes of `RateLimit`.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// Nobody is believed who asks for more than this.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The wait that `Retry-After` names, in seconds or as a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(until(date, now))
}

/// The wait until the quota is filled up again, if the headers say that it is used up.
pub(crate) fn quota_used_up(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    for prefix in ["ratelimit", "x-ratelimit", "x-rate-limit"] {
        let number = |name: &str| -> Option<f64> {
            headers.get(format!("{prefix}-{name}"))?.to_str().ok()?.trim().parse().ok()
        };
        if number("remaining").is_some_and(|left| left < 1.0) {
            return number("reset").map(|reset| reset_in(reset, now));
        }
    }
    let text = headers.get("ratelimit")?.to_str().ok()?;
    let number = |names: [&str; 2]| {
        text.split([',', ';'])
            .filter_map(|part| part.trim().split_once('='))
            .find(|(name, _)| names.contains(name))
            .and_then(|(_, value)| value.trim().parse::<f64>().ok())
    };
    if number(["r", "remaining"])? < 1.0 {
        return number(["t", "reset"]).map(|reset| reset_in(reset, now));
    }
    None
}

/// A reset is given in seconds from now, or (GitHub and others) as seconds since 1970.
fn reset_in(reset: f64, now: Timestamp) -> Duration {
    const SURELY_A_DATE: f64 = 1e9;
    let seconds = if reset >= SURELY_A_DATE { reset - now.as_second() as f64 } else { reset };
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LONGEST).min(LONGEST)
}

fn until(date: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn now() -> Timestamp {
        "1994-11-06T08:49:37Z".parse().unwrap()
    }

    #[test]
    fn retry_after_is_read_in_seconds_and_as_a_date() {
        let wait = |text| retry_after(&headers(&[("retry-after", text)]), now());
        assert_eq!(wait("120"), Some(Duration::from_secs(120)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO), "in the past");
        assert_eq!(wait("99999999999999"), Some(LONGEST));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn a_used_up_quota_is_read_in_its_several_shapes() {
        let wait = |pairs: &[(&str, &str)]| quota_used_up(&headers(pairs), now());
        let half_a_minute = Some(Duration::from_secs(30));
        assert_eq!(wait(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "30")]), half_a_minute);
        assert_eq!(wait(&[("ratelimit", "\"default\";r=0;t=30")]), half_a_minute);
        assert_eq!(wait(&[("ratelimit", "limit=100, remaining=0, reset=30")]), half_a_minute);
        let later: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let epoch = (later.as_second() + 30).to_string();
        let github = headers(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", &epoch)]);
        assert_eq!(quota_used_up(&github, later), half_a_minute);
        assert_eq!(wait(&[("ratelimit-remaining", "3"), ("ratelimit-reset", "30")]), None);
        assert_eq!(wait(&[]), None);
    }
}
