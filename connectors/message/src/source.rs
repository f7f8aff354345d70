//! A foreign log as a source: one page per poll, progress in the cursor.

use std::time::Duration;

use alluvium_connector::parse_source;
use alluvium_model::metadata::{Load, SchemaEvolution};
use alluvium_model::{Cursor, Discovery, EntitySpec, Page, Source, SourceError};
use async_trait::async_trait;

use crate::cursor::MessageCursor;
use crate::event::Reading;
use crate::log::{Brought, Log, Want};
use crate::order::by_place;
use crate::settings::{Engine, Format, MessageEntity};

/// A foreign log.
pub(crate) struct MessageSource {
    engine: Engine,
    log: Box<dyn Log>,
    /// How many entities share the time that a run may wait for messages.
    entities: u32,
}

/// What of a log makes an entity.
struct Part {
    topic: String,
    subject: Option<String>,
    settings: MessageEntity,
}

impl MessageSource {
    pub(crate) fn new(engine: Engine, log: Box<dyn Log>) -> Self {
        Self { engine, log, entities: 1 }
    }

    fn part(&self, entity: &EntitySpec) -> Result<Part, SourceError> {
        let settings: MessageEntity = parse_source(entity)?;
        let misfit = |what: &str| {
            Err(SourceError::Misconfigured(format!("entity `{}`: {what}", entity.id())))
        };
        let MessageEntity { topic, stream, subject, .. } = settings.clone();
        match (self.engine, topic, stream, subject) {
            (Engine::Kafka, Some(topic), None, None) => Ok(Part { topic, subject: None, settings }),
            (Engine::Kafka, ..) => {
                misfit("of Kafka, its `source` names a `topic`, and neither `stream` nor `subject`")
            }
            (Engine::Nats, None, Some(topic), subject) => Ok(Part { topic, subject, settings }),
            (Engine::Nats, ..) => misfit(
                "of NATS, its `source` names a `stream` and, where not all of its subjects are \
                 meant, a `subject`; without a stream NATS keeps nothing that could be read again",
            ),
        }
    }

    /// Checks an entity and fills in what orders its rows. A log tells neither keys nor columns.
    fn complete(&self, mut entity: EntitySpec) -> Result<EntitySpec, SourceError> {
        let Part { settings, .. } = self.part(&entity)?;
        let id = entity.id();
        let misfit = |what: &str| Err(SourceError::Misconfigured(format!("entity `{id}`: {what}")));
        if entity.load == Load::Full {
            return misfit("a log is read by what came since; set `load` to `delta`");
        }
        if entity.keys.is_empty() {
            return misfit("declare its `keys`; a log does not tell them");
        }
        if entity.columns.is_empty() && entity.schema_evolution != SchemaEvolution::Evolve {
            return misfit("declare its `columns`; a log does not tell them");
        }
        let mapped = settings.map.as_ref().is_some_and(|map| !map.sequence.is_empty());
        if mapped && entity.sequence_by.is_empty() {
            return misfit(
                "its `map` names a sequence, so say what its parts are, as in `sequence_by: \
                 [{\"carried\": \"long\"}]`",
            );
        }
        if settings.format == Format::Plain && settings.map.as_ref().is_some_and(|m| m.op.is_some())
        {
            return misfit(
                "rows of format `plain` have no operation; leave `format` out with `map`",
            );
        }
        if entity.sequence_by.is_empty() {
            entity.sequence_by = by_place();
        }
        Ok(entity)
    }

    fn want(&self, entity: &EntitySpec, part: &Part, cursor: Option<&MessageCursor>) -> Want {
        let settings = &part.settings;
        Want {
            entity: entity.id(),
            topic: part.topic.clone(),
            subject: part.subject.clone(),
            from: cursor.map(MessageCursor::next),
            last: cursor.map(MessageCursor::last).unwrap_or_default(),
            incarnation: cursor.and_then(|cursor| cursor.incarnation.clone()),
            start: settings.start,
            on_loss: settings.on_loss,
            messages: settings.page_messages.clamp(1, 1_000_000),
            bytes: settings.page_bytes.max(1),
            wait: Duration::from_secs(settings.wait_seconds.min(10)) / self.entities,
        }
    }
}

#[async_trait]
impl Source for MessageSource {
    async fn discover(&mut self, declared: &[EntitySpec]) -> Result<Discovery, SourceError> {
        self.entities = u32::try_from(declared.len()).unwrap_or(u32::MAX).max(1);
        let mut found = Discovery::default();
        for entity in declared {
            found.add(entity.id(), self.complete(entity.clone()))?;
        }
        Ok(found)
    }

    async fn poll(
        &mut self,
        entity: &EntitySpec,
        stored: Option<&Cursor>,
    ) -> Result<Page, SourceError> {
        let part = self.part(entity)?;
        let known = MessageCursor::read(stored, &part.of())?;
        let reading = Reading::new(entity, &part.topic, &part.settings)?;
        let want = self.want(entity, &part, known.as_ref());
        let brought = self.log.page(want).await?;
        let fresh = || MessageCursor { of: part.of(), ..MessageCursor::default() };
        let mut cursor = known.clone().unwrap_or_else(fresh);
        let Brought { messages, next, mut last, incarnation, lost, more } = brought;
        let mut records = Vec::with_capacity(messages.len());
        for message in &messages {
            let place = cursor.partitions.entry(message.partition).or_default();
            reading.records(message, place, &mut cursor.passed, &mut records);
        }
        cursor.partitions.retain(|partition, _| next.contains_key(partition));
        for (partition, next) in next {
            let place = cursor.partitions.entry(partition).or_default();
            place.stand(next, last.remove(&partition));
        }
        cursor.incarnation = incarnation;
        cursor.passed.lost += lost;
        let moved = known.as_ref() != Some(&cursor);
        let next = if moved { Some(cursor.write()?) } else { None };
        Ok(Page { records, more: more && moved, next })
    }

    async fn acknowledge(
        &mut self,
        entity: &EntitySpec,
        cursor: &Cursor,
    ) -> Result<(), SourceError> {
        let part = self.part(entity)?;
        match MessageCursor::read(Some(cursor), &part.of())? {
            Some(cursor) => self.log.note(&entity.id(), cursor.next()).await,
            None => Ok(()),
        }
    }
}

impl Part {
    /// What a cursor is made for.
    fn of(&self) -> String {
        match &self.subject {
            Some(subject) => format!("{} {subject}", self.topic),
            None => self.topic.clone(),
        }
    }
}
