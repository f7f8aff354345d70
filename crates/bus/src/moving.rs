//! Moving house: what stands on a bus of a move to it or from it, where a move stands by that, and
//! what of a topic goes along.
//!
//! A move counts from the moment at which the bus that is left says so. Before, that bus is the
//! truth, and the other one is only prepared; after it, nobody uses the old bus any more, and the
//! new one once the lake was led to its topics.

use alluvium_model::{
    BusError, Cursor, CursorRecord, EncodedPage, EntityId, FencingToken, Publisher,
};
use serde::{Deserialize, Serialize};

use crate::Bus;

/// A move from one bus to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The bus that is left, for people.
    pub from: String,
    /// The bus that is moved to.
    pub to: String,
    /// When it began, in milliseconds since 1970: by it one move is told from another.
    pub begun_at_ms: i64,
    /// The beginnings of those moves from and to the same places whose mark it found on the new bus,
    /// and put its own in the place of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken_over: Vec<i64>,
}

impl Move {
    /// The move that begins now on a bus with this mark. One that was broken off is taken over: it
    /// may only seem to be, and put its mark on the old bus all the same.
    pub fn begin(from: String, to: String, begun_at_ms: i64, new: Option<&Mark>) -> Self {
        let mut taken_over = Vec::new();
        if let Some(Mark::Arriving(before)) = new
            && (&before.from, &before.to) == (&from, &to)
        {
            taken_over.clone_from(&before.taken_over);
            taken_over.push(before.begun_at_ms);
        }
        Self { from, to, begun_at_ms, taken_over }
    }

    /// Whether the bus on which this move arrives is the one for which `left` was put on the old one.
    fn goes_on(&self, left: &Self) -> bool {
        self == left
            || ((&self.from, &self.to) == (&left.from, &left.to)
                && self.taken_over.contains(&left.begun_at_ms))
    }
}

/// What stands on a bus of a move. A bus without a mark was always used, or never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum Mark {
    /// It is prepared for a move to it, which may count already.
    Arriving(Move),
    /// It is in use since a move to it.
    Arrived(Move),
    /// It is used no more: everything goes on where the move led.
    Left(Move),
}

impl Mark {
    /// Whether it may be put where `found` stands, by one who has seen `before` there: a mark that he
    /// does not know tells of another's move.
    pub(crate) fn may_replace(&self, found: Option<&Self>, before: Option<&Self>) -> bool {
        found == before || found == Some(self)
    }

    /// Why the bus cannot be used as it is, and what to do; `None` if it can.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Arrived(_) => None,
            Self::Left(Move { to, .. }) => Some(format!(
                "the bus has moved to {to}, and nothing is published or read here any more: write \
                 the settings of that bus; `alluvium bus migrate --to {to}` tells them"
            )),
            Self::Arriving(Move { from, to, .. }) => Some(format!(
                "a move to this bus has begun and is not at its end: with the settings of the bus \
                 that is left ({from}), give `alluvium bus migrate --to {to}` again"
            )),
        }
    }
}

/// Where a move stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nothing counts yet, whatever was prepared.
    Before,
    /// The same; but the bus to move to was itself left once, and holds what is of the past.
    BeforeAnew,
    /// The old bus is left, and the lake is still to be led to the new topics.
    Counts(Move),
    /// It is at its end.
    Done(Move),
}

/// Whether the bus with this mark can be left for `to`, or was. The error says why not, and what to do.
pub fn may_leave(old: Option<&Mark>, to: &str) -> Result<(), String> {
    match old {
        Some(Mark::Left(made)) if made.to != to => Err(format!(
            "the bus has moved to {}: say that, `--to {}`, to go on with it or to be told its \
             settings",
            made.to, made.to
        )),
        Some(mark) if matches!(mark, Mark::Arriving(_)) => Err(mark.refusal().unwrap_or_default()),
        _ => Ok(()),
    }
}

/// Where a move to `to` stands, by the marks of the bus that is left and of the one that is moved to.
/// The error says why there can be no such move, and what to do.
pub fn standing(old: Option<&Mark>, new: Option<&Mark>, to: &str) -> Result<Standing, String> {
    may_leave(old, to)?;
    let Some(Mark::Left(made)) = old else {
        return match new {
            None | Some(Mark::Arriving(_)) => Ok(Standing::Before),
            Some(Mark::Left(_)) => Ok(Standing::BeforeAnew),
            Some(Mark::Arrived(other)) => Err(format!(
                "{to} is in use since a move from {}: give this installation a bus of its own, or \
                 another prefix",
                other.from
            )),
        };
    };
    match new {
        Some(Mark::Arriving(here)) if here.goes_on(made) => Ok(Standing::Counts(made.clone())),
        Some(Mark::Arrived(here)) if here.goes_on(made) => Ok(Standing::Done(made.clone())),
        _ => {
            let on = match new {
                Some(Mark::Left(on)) => format!(", or was left itself, for {}", on.to),
                _ => String::new(),
            };
            Err(format!(
                "this is not the bus at {to} to which the bus has moved{on}: give the same prefix \
                 and the same access as then"
            ))
        }
    }
}

/// Refuses a topic to all who had it before the holder of `token`: an empty page of his, by which the
/// source is read on from where it is, which is `known` elsewhere if the bus does not know it. Who
/// looked for a mark before the bus is left, and publishes after it, meets this page.
///
/// May be repeated, each time with a later token.
pub async fn fence(
    old: &dyn Bus,
    topic: &EntityId,
    token: FencingToken,
    known: Option<CursorRecord>,
) -> Result<(), BusError> {
    let stands = old.cursor(topic).await?.or(known);
    let cursor = stands.as_ref().map_or_else(Cursor::beginning, |last| last.cursor.clone());
    let record = CursorRecord::following(stands.as_ref(), token, cursor);
    old.publish(topic, EncodedPage::default(), Some(record)).await?;
    old.rest(topic).await;
    Ok(())
}

/// Brings to another bus how far the source of a topic was read. Answers what stands on both then;
/// may be repeated.
pub async fn carry(
    old: &dyn Publisher,
    new: &dyn Bus,
    topic: &EntityId,
) -> Result<Option<CursorRecord>, BusError> {
    let Some(record) = old.cursor(topic).await? else { return Ok(None) };
    // The token of a page may have grown since it was carried: who tried it again took it over.
    let is_same =
        |there: &CursorRecord| (there.page, &there.cursor) == (record.page, &record.cursor);
    if !new.cursor(topic).await?.as_ref().is_some_and(is_same) {
        new.publish(topic, EncodedPage::default(), Some(record.clone())).await?;
        new.rest(topic).await;
    }
    Ok(Some(record))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: &str = "nats://127.0.0.1:4222";

    fn made(begun_at_ms: i64) -> Move {
        Move::begin("embedded".to_owned(), TO.to_owned(), begun_at_ms, None)
    }

    #[test]
    fn a_move_counts_from_when_the_old_bus_is_left_and_is_done_when_the_new_one_is_free() {
        let (arriving, arrived) = (Mark::Arriving(made(1)), Mark::Arrived(made(1)));
        let left = Mark::Left(made(1));
        assert_eq!(standing(None, None, TO), Ok(Standing::Before));
        assert_eq!(standing(None, Some(&arriving), TO), Ok(Standing::Before));
        assert_eq!(standing(Some(&arrived), None, TO), Ok(Standing::Before), "it moves on");
        assert_eq!(standing(None, Some(&left), TO), Ok(Standing::BeforeAnew), "it moves back");
        assert_eq!(standing(Some(&left), Some(&arriving), TO), Ok(Standing::Counts(made(1))));
        assert_eq!(standing(Some(&left), Some(&arrived), TO), Ok(Standing::Done(made(1))));
    }

    #[test]
    fn a_bus_that_is_not_the_one_of_the_move_is_refused() {
        let (arriving, arrived) = (Mark::Arriving(made(2)), Mark::Arrived(made(2)));
        let left = Mark::Left(made(1));
        assert!(standing(Some(&left), None, TO).is_err(), "another prefix");
        assert!(standing(Some(&left), Some(&arriving), TO).is_err(), "of another move");
        assert!(standing(Some(&left), Some(&arrived), TO).is_err());
        assert!(standing(None, Some(&arrived), TO).is_err(), "somebody lives there");
        let elsewhere = standing(Some(&left), None, "kafka://127.0.0.1:9092").unwrap_err();
        assert!(elsewhere.contains(&format!("--to {TO}")), "{elsewhere}");
        let unfinished = standing(Some(&arriving), None, "embedded").unwrap_err();
        assert!(unfinished.contains("embedded") && unfinished.contains(TO), "{unfinished}");
    }

    #[test]
    fn one_who_stood_still_may_leave_the_bus_though_another_had_taken_the_move_over() {
        let begin =
            |at, new: &Mark| Move::begin("embedded".to_owned(), TO.to_owned(), at, Some(new));
        let second = begin(2, &Mark::Arriving(made(1)));
        let third = begin(3, &Mark::Arriving(second.clone()));
        assert_eq!(third.taken_over, [1, 2]);
        for left in [made(1), second, third.clone()] {
            let old = Mark::Left(left.clone());
            let stands = |new: &Mark| standing(Some(&old), Some(new), TO);
            assert_eq!(stands(&Mark::Arriving(third.clone())), Ok(Standing::Counts(left.clone())));
            assert_eq!(stands(&Mark::Arrived(third.clone())), Ok(Standing::Done(left)));
        }
        let late = Mark::Left(third);
        assert!(standing(Some(&late), Some(&Mark::Arriving(made(1))), TO).is_err(), "another bus");
        let elsewhere = Move { from: "kafka://127.0.0.1:9092".to_owned(), ..made(1) };
        assert_eq!(begin(2, &Mark::Arriving(elsewhere)), made(2), "another's move");
        assert_eq!(begin(2, &Mark::Left(made(1))), made(2), "it moves back");
    }

    #[test]
    fn a_mark_of_an_older_release_is_understood() {
        let written = r#"{"state":"arriving","from":"embedded","to":"x","begun_at_ms":7}"#;
        let Mark::Arriving(read) = serde_json::from_str(written).unwrap() else { panic!() };
        assert_eq!(read, Move::begin("embedded".to_owned(), "x".to_owned(), 7, None));
    }

    #[test]
    fn only_a_bus_that_has_arrived_can_be_used() {
        assert_eq!(Mark::Arrived(made(1)).refusal(), None);
        for mark in [Mark::Arriving(made(1)), Mark::Left(made(1))] {
            let said = mark.refusal().unwrap();
            assert!(said.contains(&format!("alluvium bus migrate --to {TO}")), "{said}");
        }
    }

    #[test]
    fn marks_are_written_as_they_were() {
        let written = serde_json::to_string(&Mark::Left(made(7))).unwrap();
        let expected =
            r#"{"state":"left","from":"embedded","to":"nats://127.0.0.1:4222","begun_at_ms":7}"#;
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_str::<Mark>(&written).unwrap(), Mark::Left(made(7)));
    }
}
