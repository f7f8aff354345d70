//! Instants, and how text and numbers tell them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::SequenceError;
use crate::metadata::TimeUnit;

/// A moment of the years -9999 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    /// Seconds since 1970, UTC.
    pub(super) seconds: i64,
    /// Nanoseconds beyond them.
    pub(super) nanos: u32,
}

/// The first second of the year -9999 and the last of the year 9999, since 1970, UTC: all that text
/// tells too.
const YEARS: std::ops::RangeInclusive<i64> = -377_705_116_800..=253_402_300_799;

impl Instant {
    /// So many of a unit since 1970, UTC. [`SequenceError::Beyond`] outside the years -9999 to
    /// 9999, as most numbers are that count something finer.
    pub fn from_number(number: i64, unit: TimeUnit) -> Result<Self, SequenceError> {
        Self::counted(number, unit).ok_or_else(|| {
            // Nanoseconds of 64 bits are always a time.
            let longer = [TimeUnit::S, TimeUnit::Ms, TimeUnit::Us];
            let fits = longer.into_iter().find(|unit| Self::counted(number, *unit).is_some());
            SequenceError::Beyond { unit, fits: fits.unwrap_or(TimeUnit::Ns) }
        })
    }

    fn counted(number: i64, unit: TimeUnit) -> Option<Self> {
        let (seconds, nanos) = match unit.per_second() {
            Some(all) => (number.div_euclid(all), number.rem_euclid(all) * (1_000_000_000 / all)),
            None => (number.saturating_mul(86_400), 0),
        };
        YEARS.contains(&seconds).then_some(Self { seconds, nanos: nanos as u32 })
    }

    /// So many microseconds since 1970, UTC.
    pub fn from_microsecond(micros: i64) -> Self {
        let nanos = (micros.rem_euclid(1_000_000) * 1_000) as u32;
        Self { seconds: micros.div_euclid(1_000_000), nanos }
    }

    /// Microseconds since 1970, UTC; what is finer is cut off.
    pub fn as_microsecond(self) -> i64 {
        value_micros(self.seconds, self.nanos)
    }
}

impl From<Timestamp> for Instant {
    fn from(value: Timestamp) -> Self {
        let nanos = value.as_nanosecond();
        // A timestamp's seconds always fit in 64 bits, its nanoseconds in 32.
        Self {
            seconds: nanos.div_euclid(1_000_000_000) as i64,
            nanos: nanos.rem_euclid(1_000_000_000) as u32,
        }
    }
}

/// Seconds and nanoseconds as microseconds. Moments of four-digit years are far from overflowing.
pub(super) fn value_micros(seconds: i64, nanos: u32) -> i64 {
    seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos / 1_000))
}

/// Reads an instant as [`parse_timestamp`] does, the very last hours of the year 9999 among them.
pub fn parse_instant(text: &str, zone: &TimeZone) -> Result<Instant, SequenceError> {
    parse_timestamp(text, zone).map(Instant::from).or_else(|error| far(text).ok_or(error))
}

/// An instant in UTC that jiff leaves out, so that every zone may show those that it has.
fn far(text: &str) -> Option<Instant> {
    let civil: jiff::civil::DateTime = text.strip_suffix(['Z', 'z'])?.parse().ok()?;
    let first = jiff::civil::date(1970, 1, 1);
    let days = civil.date().since((jiff::Unit::Day, first)).ok()?.get_days();
    let clock = civil.time();
    let seconds = i64::from(clock.hour()) * 3_600
        + i64::from(clock.minute()) * 60
        + i64::from(clock.second());
    let nanos = u32::try_from(clock.subsec_nanosecond()).ok()?;
    Some(Instant { seconds: i64::from(days) * 86_400 + seconds, nanos })
}

/// Reads an instant: RFC 3339, or a date and time without zone in `zone`, or a plain date.
pub fn parse_timestamp(text: &str, zone: &TimeZone) -> Result<Timestamp, SequenceError> {
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Ok(instant);
    }
    let civil = text
        .parse::<jiff::civil::DateTime>()
        .or_else(|_| text.parse::<jiff::civil::Date>().map(|d| d.at(0, 0, 0, 0)))
        .map_err(|_| SequenceError::NotA("timestamp"))?;
    let zoned = zone.to_zoned(civil).map_err(|_| SequenceError::NotA("timestamp"))?;
    Ok(zoned.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_times_of_all_the_years_that_text_tells() {
        use TimeUnit::{D, Ms, Ns, S, Us};
        let number = |number, unit| Instant::from_number(number, unit).ok();
        let text = |text: &str| Some(parse_instant(text, &TimeZone::UTC).unwrap());
        // Java's first day of the year 1 by the calendar of then, which many mean by no day at all.
        assert_eq!(number(-62_135_769_600_000, Ms), text("0000-12-30T00:00:00Z"));
        assert_eq!(number(-377_704_987_200, S), text("-009999-01-02T12:00:00Z"));
        assert_eq!(number(20_778, D), text("2026-11-21T00:00:00Z"));
        assert_eq!(number(-1, Us), text("1969-12-31T23:59:59.999999Z"));
        assert_eq!(number(-4_371_587, D), number(-377_705_116_800, S));
        assert!(number(253_402_300_799_999, Ms).is_some() && number(i64::MIN, Ns).is_some());
        for (beyond, unit) in [
            (-377_705_116_801, S),
            (253_402_300_800, S),
            (253_402_300_800_000, Ms),
            (-4_371_588, D),
            (2_932_897, D),
            (i64::MAX, D),
        ] {
            assert_eq!(number(beyond, unit), None, "{beyond} {unit}");
        }
    }

    #[test]
    fn a_number_beyond_all_times_names_the_unit_in_which_it_is_one() {
        use TimeUnit::{Ms, Ns, S, Us};
        for (number, unit, expected) in [
            (1_795_248_000_000, S, Ms),
            (1_795_248_000_000_000, Ms, Us),
            (1_795_248_000_000_000_000, Ms, Ns),
            (-1_795_248_000_000_000, Ms, Us),
            (i64::MIN, Us, Ns),
        ] {
            let beyond = Instant::from_number(number, unit).unwrap_err();
            assert_eq!(beyond, SequenceError::Beyond { unit, fits: expected });
        }
        let said = Instant::from_number(1_795_248_000_000_000, Ms).unwrap_err().to_string();
        assert!(said.contains("milliseconds") && said.contains(r#""unit": "us""#), "{said}");
    }

    #[test]
    fn a_time_without_zone_is_read_in_the_zone_of_the_system() {
        let oslo = TimeZone::get("Europe/Oslo").unwrap();
        let local = parse_timestamp("2026-07-01 12:00:00", &oslo).unwrap();
        assert_eq!(local, "2026-07-01T10:00:00Z".parse().unwrap());
    }
}
