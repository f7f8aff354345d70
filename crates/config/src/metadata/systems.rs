//! What a system's schema cannot say: that zones exist and cron expressions read.

use alluvium_model::SystemSpec;
use alluvium_model::metadata::Trigger;
use croner::Cron;
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
            Trigger::Interval { .. } => {} // the schema bounds it
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
    let error = expression.parse::<Cron>().err()?;
    let help = "five fields: minute, hour, day of month, month, day of week; seconds may stand \
                before them; for instance `*/5 * * * *`";
    Some(problem(pointer, format!("this is no cron expression: {error}"), help.to_owned()))
}

fn problem(pointer: &str, text: String, help: String) -> Problem {
    Problem { pointer: pointer.to_owned(), at_key: false, text, help: Some(help) }
}
