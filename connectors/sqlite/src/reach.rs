//! How far back a run reaches behind the highest value of the last. Pure.
//!
//! SQLite has no time type: times are texts that it compares as texts. So the earlier value must be
//! a text that sorts before all of its own kind: the same shape, cut off after the seconds.

use jiff::civil::{Date, DateTime};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::cursor::Stored;

/// The value `overlap` before `high`; `None` where there is no such thing.
pub(crate) fn back(high: &Stored, overlap: u64) -> Option<Stored> {
    if overlap == 0 {
        return Some(high.clone());
    }
    let units = i64::try_from(overlap).unwrap_or(i64::MAX);
    match high {
        Stored::Integer(value) => Some(Stored::Integer(value.saturating_sub(units))),
        Stored::Real(value) => Some(Stored::Real(value - units as f64)),
        Stored::Text(text) => {
            let shape = Shape::of(text)?;
            let earlier = shape.time.checked_sub(SignedDuration::from_secs(units));
            Some(Stored::Text(shape.write(earlier.unwrap_or(DateTime::MIN))))
        }
        Stored::Blob(_) => None,
    }
}

/// Not above `now`: a row with a time in the future must not end the reading.
pub(crate) fn at_most(high: Stored, now: Timestamp, zone: &TimeZone) -> Stored {
    let Stored::Text(text) = &high else { return high };
    let Some(shape) = Shape::of(text) else { return high };
    let now = shape.write(now.to_zoned(zone.clone()).datetime());
    if now < *text { Stored::Text(now) } else { high }
}

/// A time as it stands at the begin of a text.
struct Shape {
    time: DateTime,
    /// `2026-11-21`, with ` 08:30` or `T08:30`, with `:15`.
    length: usize,
    separator: char,
}

impl Shape {
    fn of(text: &str) -> Option<Self> {
        let date: Date = text.get(..10)?.parse().ok()?;
        if text.len() == 10 {
            return Some(Self { time: date.at(0, 0, 0, 0), length: 10, separator: ' ' });
        }
        let separator = text.chars().nth(10).filter(|c| matches!(c, ' ' | 'T'))?;
        let time = |length: usize| text.get(..length)?.parse::<DateTime>().ok();
        let (time, length) = match time(19) {
            Some(time) => (time, 19),
            None => (time(16)?, 16),
        };
        Some(Self { time, length, separator })
    }

    fn write(&self, time: DateTime) -> String {
        let text = time.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        let text = text.get(..self.length).unwrap_or(&text);
        text.replace('T', &self.separator.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(high: &str, overlap: u64) -> Option<String> {
        match back(&Stored::Text(high.into()), overlap)? {
            Stored::Text(text) => Some(text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_earlier_time_sorts_before_all_of_its_shape() {
        assert_eq!(text("2026-11-21 00:00:30", 60).unwrap(), "2026-11-20 23:59:30");
        assert_eq!(text("2026-11-21T08:00:00.123Z", 1).unwrap(), "2026-11-21T07:59:59");
        assert!(text("2026-11-21T08:00:00.123Z", 1).unwrap().as_str() < "2026-11-21T07:59:59.000Z");
        assert_eq!(text("2026-11-21 08:30", 60).unwrap(), "2026-11-21 08:29");
        assert_eq!(text("2026-11-21", 1).unwrap(), "2026-11-20");
        assert_eq!(text("v17", 1), None);
        assert_eq!(text("v17", 0).unwrap(), "v17");
    }

    #[test]
    fn numbers_go_back_by_units() {
        assert_eq!(back(&Stored::Integer(10), 3), Some(Stored::Integer(7)));
        assert_eq!(back(&Stored::Integer(i64::MIN), 3), Some(Stored::Integer(i64::MIN)));
        assert_eq!(back(&Stored::Real(1.5), 1), Some(Stored::Real(0.5)));
        assert_eq!(back(&Stored::Blob(vec![1]), 1), None);
    }

    #[test]
    fn a_time_in_the_future_counts_as_now() {
        let now: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
        let oslo = TimeZone::get("Europe/Oslo").unwrap();
        let at_most = |text: &str| match at_most(Stored::Text(text.into()), now, &oslo) {
            Stored::Text(text) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(at_most("2126-01-01 00:00:00"), "2026-11-21 09:00:00");
        assert_eq!(at_most("2026-11-21 08:59:59.5"), "2026-11-21 08:59:59.5");
        assert_eq!(at_most("zzz"), "zzz");
    }
}
