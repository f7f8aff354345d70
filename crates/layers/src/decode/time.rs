//! Days and moments: as text, or as the numbers by which Debezium and others count them.

use alluvium_model::metadata::TimeUnit;
use alluvium_model::sequence::{Instant, parse_instant};
use alluvium_wire::string_value;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;

use super::cell::{Cell, misfit};

pub(super) fn date(raw: &RawValue, unit: Option<TimeUnit>) -> Result<Cell<'_>, String> {
    if let Ok(number) = raw.get().parse() {
        return day(number, unit).map(Cell::Date);
    }
    let text = string_value(raw).ok_or_else(|| misfit("a date", raw.get()))?;
    let date: jiff::civil::Date =
        text.parse().map_err(|_| "expected a date such as 2026-11-21".to_owned())?;
    let epoch = jiff::civil::date(1970, 1, 1);
    let days = date.since((jiff::Unit::Day, epoch)).map_err(|_| "the date is out of range")?;
    Ok(Cell::Date(days.get_days()))
}

/// A day by its number. Only where the column says so: a year, or `20261121`, would become some day.
fn day(number: i64, unit: Option<TimeUnit>) -> Result<i32, String> {
    if unit != Some(TimeUnit::D) {
        return Err("expected a date such as 2026-11-21, found a number; if it counts days since \
                    1970-01-01, write \"unit\": \"d\" in the column"
            .to_owned());
    }
    let is_day = Instant::from_number(number, TimeUnit::D).is_ok();
    i32::try_from(number).ok().filter(|_| is_day).ok_or_else(|| {
        "the number is no day of the years -9999 to 9999: it counts something else than days since \
         1970-01-01"
            .to_owned()
    })
}

pub(super) fn timestamp<'a>(
    raw: &'a RawValue,
    unit: TimeUnit,
    zone: &TimeZone,
) -> Result<Cell<'a>, String> {
    if let Ok(number) = raw.get().parse::<i64>() {
        let instant = Instant::from_number(number, unit).map_err(|error| error.to_string())?;
        return Ok(Cell::Timestamp(instant.as_microsecond()));
    }
    let text = string_value(raw).ok_or_else(|| misfit("a timestamp", raw.get()))?;
    if let Some(micros) = plain_utc(text.as_bytes()) {
        return Ok(Cell::Timestamp(micros));
    }
    let instant = parse_instant(&text, zone)
        .map_err(|_| "expected a timestamp such as 2026-11-21T08:00:00Z".to_owned())?;
    Ok(Cell::Timestamp(instant.as_microsecond()))
}

/// The commonest form, `YYYY-MM-DDTHH:MM:SSZ`, without the cost of a general parser.
pub(crate) fn plain_utc(text: &[u8]) -> Option<i64> {
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T',
        h1,
        h2,
        b':',
        n1,
        n2,
        b':',
        s1,
        s2,
        b'Z',
    ] = text
    else {
        return None;
    };
    let two = |a: &u8, b: &u8| {
        (a.is_ascii_digit() && b.is_ascii_digit()).then(|| i64::from((a - b'0') * 10 + (b - b'0')))
    };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(n1, n2)?, two(s1, s2)?);
    let last = match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if day < 1 || day > last || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days since 1970 in the proleptic Gregorian calendar, years beginning in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let of_year = (153 * m + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((days * 86_400 + hour * 3_600 + minute * 60 + second) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use alluvium_model::{Column, ColumnType};

    use super::*;
    use crate::decode::cell::read;

    fn cell(column: &Column, json: &str) -> Result<Cell<'static>, String> {
        let raw: Box<RawValue> = RawValue::from_string(json.to_owned()).unwrap();
        read(column, &TimeZone::UTC, Box::leak(raw))
    }

    fn micros(unit: TimeUnit, json: &str) -> Option<i64> {
        let column = Column { unit: Some(unit), ..Column::new("c", ColumnType::Timestamp) };
        match cell(&column, json) {
            Ok(Cell::Timestamp(micros)) => Some(micros),
            _ => None,
        }
    }

    #[test]
    fn times_are_instants_from_long_ago_to_far_ahead() {
        let micros = |json: &str| micros(TimeUnit::Ms, json);
        assert_eq!(micros("\"1970-01-01T00:00:01Z\""), Some(1_000_000));
        assert_eq!(micros("\"1969-12-31T23:59:59.999999Z\""), Some(-1));
        assert_eq!(micros("\"2026-01-01T01:00:00+01:00\""), micros("\"2026-01-01T00:00:00Z\""));
        assert_eq!(micros("1517966996303"), Some(1_517_966_996_303_000));
        assert!(micros("\"9999-12-30T23:59:59Z\"").is_some());
        assert!(micros("\"2026-02-30T00:00:00Z\"").is_none());
    }

    #[test]
    fn numbers_count_what_the_column_says() {
        for (unit, number) in [
            (TimeUnit::S, "1517966996"),
            (TimeUnit::Ms, "1517966996000"),
            (TimeUnit::Us, "1517966996000000"),
            (TimeUnit::Ns, "1517966996000000999"),
        ] {
            assert_eq!(micros(unit, number), Some(1_517_966_996_000_000), "{unit}");
            assert_eq!(micros(unit, "\"1970-01-01T00:00:01Z\""), Some(1_000_000), "text is text");
        }
        let before = [TimeUnit::S, TimeUnit::Ms, TimeUnit::Us].map(|unit| micros(unit, "-1"));
        assert_eq!(before, [Some(-1_000_000), Some(-1_000), Some(-1)]);
        assert_eq!(
            micros(TimeUnit::Ns, "-1"),
            micros(TimeUnit::Ms, "\"1969-12-31T23:59:59.999999999Z\"")
        );
        assert_eq!(micros(TimeUnit::Us, "253402300799999999"), Some(253_402_300_799_999_999));
        assert_eq!(micros(TimeUnit::Ms, "253402300800000"), None);
        // As text: 0000-12-30T00:00:00Z.
        assert_eq!(
            micros(TimeUnit::Ms, "-62135769600000"),
            micros(TimeUnit::S, "\"0000-12-30T00:00:00Z\"")
        );
        assert_eq!(micros(TimeUnit::S, "-62135769600"), Some(-62_135_769_600_000_000));
        assert_eq!(micros(TimeUnit::Ms, "-1517966996303000"), None);
    }

    #[test]
    fn a_number_that_cannot_be_of_its_unit_is_refused_with_the_word_that_mends_it() {
        let column = Column::new("c", ColumnType::Timestamp);
        let reason = cell(&column, "1517966996303000").unwrap_err();
        assert!(reason.contains("milliseconds"), "{reason}");
        assert!(reason.contains(r#""unit": "us""#), "{reason}");
        assert!(!reason.contains("1517"), "{reason}");
    }

    #[test]
    fn a_date_is_a_day_or_where_the_column_says_so_the_number_of_its_days() {
        let plain = Column::new("c", ColumnType::Date);
        let column = Column { unit: Some(TimeUnit::D), ..plain.clone() };
        let day = |json: &str| cell(&column, json).ok();
        assert_eq!(day("20778"), day("\"2026-11-21\""));
        assert_eq!(day("-1"), Some(Cell::Date(-1)));
        assert_eq!(day("-719162"), day("\"0001-01-01\""));
        assert_eq!(day("2932896"), day("\"9999-12-31\""));
        assert_eq!(day("-719528"), day("\"0000-01-01\""));
        assert_eq!(cell(&plain, "\"2026-11-21\""), Ok(Cell::Date(20_778)));
        for number in ["20261121", "1763683200000", "2147483647", "-4371588"] {
            let reason = cell(&column, number).unwrap_err();
            assert!(reason.contains("something else than days since 1970-01-01"), "{reason}");
        }
        for number in ["2026", "20778", "0"] {
            let reason = cell(&plain, number).unwrap_err();
            assert!(reason.contains(r#""unit": "d""#), "{reason}");
        }
        assert!(cell(&column, "1.5").is_err());
    }

    #[test]
    fn the_short_way_to_an_instant_agrees_with_the_long_one() {
        for day in 0..20_000 {
            let instant =
                jiff::Timestamp::from_second(i64::from(day) * 86_411 - 900_000_000).unwrap();
            let text = instant.to_string();
            assert_eq!(plain_utc(text.as_bytes()), Some(instant.as_microsecond()), "{text}");
        }
    }
}
