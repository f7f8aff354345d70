//! Times as the ledger writes them: RFC 3339 text in UTC with microseconds, all of one width, so
//! that they read well and sort as text.

use std::time::Duration;

use jiff::Timestamp;

/// `2026-01-31T12:00:00.000000Z`
pub(crate) fn text(at: Timestamp) -> String {
    format!("{at:.6}")
}

/// The time `age` before `now`, or the earliest there is.
pub(crate) fn before(now: Timestamp, age: Duration) -> Timestamp {
    now.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The time `wait` after `now`, or the latest there is.
pub(crate) fn after(now: Timestamp, wait: Duration) -> Timestamp {
    now.checked_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_width_and_sort_as_text() {
        let whole: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let later = Timestamp::from_microsecond(whole.as_microsecond() + 1).unwrap();
        assert_eq!(text(whole), "2026-01-31T12:00:00.000000Z");
        assert_eq!(text(later), "2026-01-31T12:00:00.000001Z");
        assert!(text(whole) < text(later));
        assert_eq!(text(later).parse::<Timestamp>().unwrap(), later);
    }

    #[test]
    fn an_age_without_end_reaches_back_to_the_beginning() {
        let now: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        assert_eq!(before(now, Duration::MAX), Timestamp::UNIX_EPOCH);
        assert_eq!(after(now, Duration::MAX), Timestamp::MAX);
    }
}
