//! How far a connector has read, and the record of it that stands on the bus.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How far a connector has read in its source. Opaque to everyone but the connector that made it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub Value);

impl Cursor {
    /// Before everything: the source is read from its beginning.
    pub fn beginning() -> Self {
        Self(Value::Null)
    }
}

/// A number that grows with every owner of a poll loop: of two pollers, only the younger advances.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct FencingToken(pub u64);

/// What becomes durable with, or after, all changes of a page, and is never subject to retention.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CursorRecord {
    /// Who published the page. An older token is refused.
    pub token: FencingToken,
    /// The page's number, from 1 and without holes over all tokens. A lower or equal one is refused.
    pub page: u64,
    /// How far the connector had read after the page.
    pub cursor: Cursor,
}

impl CursorRecord {
    /// The record that follows `last`, published by the holder of `token`.
    pub fn following(last: Option<&CursorRecord>, token: FencingToken, cursor: Cursor) -> Self {
        Self { token, page: last.map_or(1, |l| l.page + 1), cursor }
    }

    /// Whether this record may be written where `last` stands.
    pub fn may_follow(&self, last: Option<&CursorRecord>) -> bool {
        last.is_none_or(|l| self.token >= l.token && self.page > l.page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_pollers_only_the_younger_advances() {
        let rec = |token, page| CursorRecord {
            token: FencingToken(token),
            page,
            cursor: Cursor(Value::Null),
        };
        assert!(rec(1, 1).may_follow(None));
        assert!(rec(2, 6).may_follow(Some(&rec(1, 5))));
        assert!(!rec(1, 6).may_follow(Some(&rec(2, 5))), "an older token");
        assert!(!rec(2, 5).may_follow(Some(&rec(2, 5))), "a page published before");
        assert!(
            !rec(3, 5).may_follow(Some(&rec(2, 5))),
            "a younger poller that did not ask the bus"
        );
    }
}
