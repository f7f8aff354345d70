//! What a system's schema cannot say: that zones exist and cron expressions read.

use alluvium_model::SystemSpec;
use alluvium_model::metadata::Trigger;
use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::conform::Problem;
use crate::nearest::nearest;

/// All that is wrong with a system by itself.
pub(super) fn check(system: &SystemSpec) -> Vec<Problem> {
    let mut problems = Vec::new();
    problems.extend(zone("/timezone", &system.timezone));
    for (index, trigger) in system.triggers.iter().enumerate() {
        let pointer = format!("/triggers/{index}");
        match trigger {
            Trigger::Cron { expression, timezone, .. } => {
                problems.extend(cron(&format!("{pointer}/expression"), expression));
                if let Some(name) = timezone {
                    problems.extend(zone(&format!("{pointer}/timezone"), name));
                }
            }
            Trigger::Interval { .. } | Trigger::Message {} => {} // the schema bounds them
        }
    }
    problems
}

fn zone(pointer: &str, name: &str) -> Option<Problem> {
    if TimeZone::get(name).is_ok() {
        return None;
    }
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let help = match nearest(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "use an IANA name, such as Europe/Oslo or UTC".to_owned(),
    };
    Some(problem(pointer, format!("there is no time zone `{name}`"), help))
}

fn cron(pointer: &str, expression: &str) -> Option<Problem> {
    let (text, help) = match expression.parse::<Cron>() {
        Err(error) => (
            format!("this is no cron expression: {error}"),
            "five fields: minute, hour, day of month, month, day of week; seconds may stand before \
             them; for instance `*/5 * * * *`",
        ),
        Ok(cron) if !ever_comes(&cron) => (
            "this time never comes".to_owned(),
            "no month that it names has such a day: look at day of month and month",
        ),
        Ok(_) => return None,
    };
    Some(problem(pointer, text, help.to_owned()))
}

/// Whether there is a time that the expression names. Any beginning will do, the calendar repeats.
fn ever_comes(cron: &Cron) -> bool {
    let beginning = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    cron.find_next_occurrence(&beginning, true).is_ok()
}

fn problem(pointer: &str, text: String, help: String) -> Problem {
    Problem { pointer: pointer.to_owned(), at_key: false, text, help: Some(help) }
}
