//! What streams and subjects are called.
//!
//! Names of systems and entities are made of `a-z`, `0-9` and `_`, so `-` in a stream's name and `.`
//! in a subject keep them apart: two topics never share a name.

use alluvium_model::EntityId;

/// The names of everything of one bus.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The stream of a topic.
    pub(super) fn stream(&self, topic: &EntityId) -> String {
        format!("{}-changes-{}-{}", self.prefix, topic.system, topic.entity)
    }

    /// The one subject of a topic's stream.
    pub(super) fn subject(&self, topic: &EntityId) -> String {
        format!("{}.changes.{}.{}", self.prefix, topic.system, topic.entity)
    }

    /// The subjects of all topics.
    pub(super) fn all_changes(&self) -> String {
        format!("{}.changes.>", self.prefix)
    }

    /// The topic whose stream this is.
    pub(super) fn topic(&self, stream: &str) -> Option<EntityId> {
        let rest = stream.strip_prefix(&self.prefix)?.strip_prefix("-changes-")?;
        let (system, entity) = rest.split_once('-')?;
        Some(EntityId::new(system.parse().ok()?, entity.parse().ok()?))
    }

    /// The stream of what is known of topics beside their messages.
    pub(super) fn state_stream(&self) -> String {
        format!("{}-state", self.prefix)
    }

    /// The subjects of that stream.
    pub(super) fn all_state(&self) -> String {
        format!("{}.state.>", self.prefix)
    }

    /// Where a topic's cursor record stands.
    pub(super) fn cursor(&self, topic: &EntityId) -> String {
        format!("{}.state.cursor.{}.{}", self.prefix, topic.system, topic.entity)
    }

    /// Where it stands how far raw has landed a topic.
    pub(super) fn landed(&self, topic: &EntityId) -> String {
        format!("{}.state.landed.{}.{}", self.prefix, topic.system, topic.entity)
    }

    /// Where it stands that the bus was moved to, or left.
    pub(super) fn mark(&self) -> String {
        format!("{}.state.move", self.prefix)
    }

    /// Where it stands whose bus it is.
    pub(super) fn tenant(&self) -> String {
        format!("{}.state.tenant", self.prefix)
    }

    /// The stream of the audit events.
    pub(super) fn audit_stream(&self) -> String {
        format!("{}-audit", self.prefix)
    }

    /// The subjects of that stream.
    pub(super) fn all_audit(&self) -> String {
        format!("{}.audit.>", self.prefix)
    }

    /// The subject of an audit event that is about a system or an entity.
    pub(super) fn audit(&self, about: &str) -> String {
        let fine = |part: &&str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        let parts: Vec<&str> = about.split('.').filter(fine).collect();
        match parts.is_empty() {
            true => format!("{}.audit.alluvium", self.prefix),
            false => format!("{}.audit.{}", self.prefix, parts.join(".")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_topics_share_a_name_and_each_is_found_again() {
        let names = Names::new("house-1");
        let topics = ["a_b.c", "a.b_c", "a.b", "ab.c"].map(|t| t.parse::<EntityId>().unwrap());
        let streams: std::collections::BTreeSet<_> =
            topics.iter().map(|t| names.stream(t)).collect();
        assert_eq!(streams.len(), topics.len());
        for topic in &topics {
            assert_eq!(names.topic(&names.stream(topic)).as_ref(), Some(topic));
        }
        assert_eq!(names.topic("house-changes-a-b"), None);
        assert_eq!(names.topic("house-1-state"), None);
    }

    #[test]
    fn an_audit_subject_is_one_whatever_the_event_is_about() {
        let names = Names::new("alluvium");
        assert_eq!(names.audit("shop.orders"), "alluvium.audit.shop.orders");
        assert_eq!(names.audit("> *"), "alluvium.audit.alluvium");
    }
}
