//! When a system is due: cron expressions in a zone, and intervals.
//!
//! Daylight saving, as `cron` itself has it: an expression that names its hours and minutes runs
//! once a day whatever the clock does. If the clock jumps over its time, it runs at the first moment
//! after; if its time comes twice, it runs the first time only. An expression with a wildcard, a
//! step or a range in hour or minute follows the running clock: `*/15 * * * *` goes on every quarter
//! of an hour through both changes.
//!
//! A time that passed while nothing ran here is made up for, once, unless the trigger says not to.

use std::str::FromStr;
use std::time::Duration;

use alluvium_model::SystemSpec;
use alluvium_model::metadata::{CatchUp, Trigger};
use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A trigger that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// The expression is no cron expression.
    #[error("`{expression}` is no cron expression: {reason}")]
    Expression {
        /// What was written.
        expression: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The zone is not known.
    #[error("`{0}` is no zone: use an IANA name such as Europe/Oslo")]
    Zone(String),
    /// The interval is nothing.
    #[error("an interval must be at least one second")]
    NoInterval,
}

/// The word in the ledger for runs that wait for messages.
pub(crate) const MESSAGE: &str = "message";

/// When a trigger is due.
#[derive(Debug, Clone)]
pub enum Schedule {
    /// At the times of a cron expression.
    Cron {
        /// The expression.
        cron: Box<Cron>,
        /// The zone whose clock it reads.
        zone: TimeZone,
        /// What becomes of times that passed since the last run.
        catch_up: CatchUp,
    },
    /// So long after the last run's start.
    Interval(Duration),
    /// Within a second of the last run's end: it is the source that waits.
    Message,
}

/// So often it is looked whether the last run has ended.
const BETWEEN_MESSAGES: Duration = Duration::from_secs(1);

impl Schedule {
    /// Reads a trigger; `timezone` is its system's.
    pub fn read(trigger: &Trigger, timezone: &str) -> Result<Self, ScheduleError> {
        match trigger {
            Trigger::Interval { seconds: 0 } => Err(ScheduleError::NoInterval),
            Trigger::Interval { seconds } => Ok(Self::Interval(Duration::from_secs(*seconds))),
            Trigger::Message {} => Ok(Self::Message),
            Trigger::Cron { expression, timezone: own, catch_up } => {
                let name = own.as_deref().unwrap_or(timezone);
                let zone = TimeZone::get(name).map_err(|_| ScheduleError::Zone(name.to_owned()))?;
                let cron =
                    Cron::from_str(expression).map_err(|error| ScheduleError::Expression {
                        expression: expression.clone(),
                        reason: error.to_string(),
                    })?;
                Ok(Self::Cron { cron: Box::new(cron), zone, catch_up: *catch_up })
            }
        }
    }

    /// All triggers of a system.
    pub fn of(system: &SystemSpec) -> Result<Vec<Self>, ScheduleError> {
        system.triggers.iter().map(|trigger| Self::read(trigger, &system.timezone)).collect()
    }

    /// The word for it in the ledger.
    pub fn kind(&self) -> &'static str {
        match self {
            Schedule::Cron { .. } => "cron",
            Schedule::Interval(_) => "interval",
            Schedule::Message => MESSAGE,
        }
    }

    /// The next time after `now`, or `now` itself for what was due before; `last` is the start of
    /// the last run. `None` if there never is one. What never ran has missed nothing.
    pub fn next(&self, now: Timestamp, last: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Schedule::Cron { cron, zone, catch_up } => {
                let from = match catch_up {
                    // A clock that was set back has missed nothing either.
                    CatchUp::Latest => last.map_or(now, |last| last.min(now)),
                    CatchUp::None => now,
                };
                let from = from.to_zoned(zone.clone());
                let due = cron.find_next_occurrence(&from, false).ok()?;
                Some(due.timestamp().max(now))
            }
            Schedule::Interval(every) => after(*every, now, last),
            Schedule::Message => after(BETWEEN_MESSAGES, now, last),
        }
    }
}

/// So long after the last start, or now.
fn after(wait: Duration, now: Timestamp, last: Option<Timestamp>) -> Option<Timestamp> {
    match last {
        None => Some(now),
        Some(last) => last.checked_add(wait).ok().map(|due| due.max(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(expression: &str, timezone: Option<&str>, catch_up: CatchUp) -> Trigger {
        let timezone = timezone.map(str::to_owned);
        Trigger::Cron { expression: expression.to_owned(), timezone, catch_up }
    }

    fn cron(expression: &str) -> Schedule {
        Schedule::read(&trigger(expression, None, CatchUp::Latest), "Europe/Oslo").unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The times from `from` until `to`.
    fn times(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
        let mut now = at(from);
        let mut times = Vec::new();
        while let Some(next) = schedule.next(now, None).filter(|next| *next < at(to)) {
            times.push(next.to_string());
            now = next;
        }
        times
    }

    #[test]
    fn a_time_that_the_clock_jumps_over_runs_right_after_the_jump() {
        // 29 March 2026: 02:00 to 03:00 does not exist in Oslo.
        let daily = times(&cron("30 2 * * *"), "2026-03-28T00:00:00Z", "2026-03-31T00:00:00Z");
        assert_eq!(daily, ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    }

    #[test]
    fn a_time_that_comes_twice_runs_once() {
        // 25 October 2026: 02:00 to 03:00 comes twice in Oslo.
        let daily = times(&cron("30 2 * * *"), "2026-10-24T00:00:00Z", "2026-10-27T00:00:00Z");
        assert_eq!(daily, ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn what_runs_every_quarter_does_so_through_both_changes() {
        for day in ["2026-03-29", "2026-10-25"] {
            let from = format!("{day}T00:00:00Z");
            let to = format!("{day}T02:00:00Z");
            let quarters = times(&cron("*/15 * * * *"), &from, &to);
            let expected: Vec<String> =
                (1..8).map(|n| (at(&from) + Duration::from_secs(n * 900)).to_string()).collect();
            assert_eq!(quarters, expected, "{day}");
        }
    }

    #[test]
    fn a_trigger_of_its_own_zone_does_not_read_the_systems_clock() {
        let trigger = trigger("0 12 * * *", Some("America/New_York"), CatchUp::Latest);
        let schedule = Schedule::read(&trigger, "Europe/Oslo").unwrap();
        let next = schedule.next(at("2026-01-15T00:00:00Z"), None);
        assert_eq!(next, Some(at("2026-01-15T17:00:00Z")));
    }

    #[test]
    fn an_interval_counts_from_the_last_start_and_is_due_at_once_when_it_is_over() {
        let hourly = Schedule::read(&Trigger::Interval { seconds: 3600 }, "UTC").unwrap();
        let now = at("2026-01-01T12:00:00Z");
        assert_eq!(hourly.next(now, None), Some(now));
        assert_eq!(
            hourly.next(now, Some(at("2026-01-01T11:30:00Z"))),
            Some(at("2026-01-01T12:30:00Z"))
        );
        assert_eq!(hourly.next(now, Some(at("2026-01-01T03:00:00Z"))), Some(now));
    }

    #[test]
    fn a_run_on_messages_follows_the_last_one_a_second_after_its_start_at_the_earliest() {
        let messages = Schedule::read(&Trigger::Message {}, "UTC").unwrap();
        let now = at("2026-01-01T12:00:00Z");
        assert_eq!(messages.next(now, None), Some(now));
        assert_eq!(
            due(&messages, "2026-01-01T12:00:00Z", "2026-01-01T12:00:00.2Z"),
            "2026-01-01T12:00:01Z"
        );
        let long = due(&messages, "2026-01-01T11:59:50Z", "2026-01-01T12:00:00Z");
        assert_eq!(long, "2026-01-01T12:00:00Z", "at once after a long run");
    }

    /// When a trigger is due that ran last at `last`, at a start at `now`.
    fn due(schedule: &Schedule, last: &str, now: &str) -> String {
        schedule.next(at(now), Some(at(last))).unwrap().to_string()
    }

    #[test]
    fn times_that_passed_while_nothing_ran_are_made_up_for_once() {
        let daily = cron("30 2 * * *");
        let start = "2026-01-10T12:00:00Z";
        assert_eq!(due(&daily, "2026-01-07T01:30:02Z", start), start, "three were missed");
        assert_eq!(due(&daily, start, start), "2026-01-11T01:30:00Z", "and one run is enough");
        assert_eq!(due(&daily, "2026-01-10T01:30:02Z", start), "2026-01-11T01:30:00Z");
        let never = daily.next(at(start), None).unwrap();
        assert_eq!(never, at("2026-01-11T01:30:00Z"), "what never ran has missed nothing");
        let set_back = due(&daily, "2026-01-14T01:30:00Z", start);
        assert_eq!(set_back, "2026-01-11T01:30:00Z", "the clock was set back");
    }

    #[test]
    fn nothing_is_made_up_for_where_the_trigger_says_so() {
        let schedule = trigger("30 2 * * *", None, CatchUp::None);
        let daily = Schedule::read(&schedule, "Europe/Oslo").unwrap();
        let next = due(&daily, "2026-01-07T01:30:02Z", "2026-01-10T12:00:00Z");
        assert_eq!(next, "2026-01-11T01:30:00Z");
    }

    #[test]
    fn what_is_made_up_for_heeds_daylight_saving() {
        let daily = cron("30 2 * * *");
        // 29 March 2026: its time does not exist, and stands for the first moment after the jump.
        let before = due(&daily, "2026-03-28T01:30:00Z", "2026-03-29T00:59:59Z");
        assert_eq!(before, "2026-03-29T01:00:00Z", "not missed yet");
        let after = due(&daily, "2026-03-28T01:30:00Z", "2026-03-29T01:20:00Z");
        assert_eq!(after, "2026-03-29T01:20:00Z", "missed");
        // 25 October 2026: its time comes twice, and the first one counts.
        let between = due(&daily, "2026-10-25T00:30:01Z", "2026-10-25T01:45:00Z");
        assert_eq!(between, "2026-10-26T01:30:00Z", "the second is none");
        let missed = due(&daily, "2026-10-24T00:30:01Z", "2026-10-25T00:45:00Z");
        assert_eq!(missed, "2026-10-25T00:45:00Z");
    }

    #[test]
    fn what_cannot_be_understood_is_told() {
        let read = |trigger, zone| Schedule::read(&trigger, zone).unwrap_err().to_string();
        let bad = trigger("61 * * * *", None, CatchUp::Latest);
        assert!(read(bad, "UTC").contains("61 * * * *"));
        let good = trigger("@hourly", None, CatchUp::Latest);
        assert!(read(good, "Mars/Olympus").contains("Mars/Olympus"));
        assert!(read(Trigger::Interval { seconds: 0 }, "UTC").contains("one second"));
    }
}
