//! A REST API as a source: one page per poll, progress in the cursor.

use std::collections::HashMap;
use std::sync::Arc;

use alluvium_connector::http::{Answer, HttpClient, Request};
use alluvium_connector::{RunStart, compact, parse_source};
use alluvium_model::metadata::{Load, SequenceBy};
use alluvium_model::{
    Change, Clock, Control, Cursor, Discovery, EntityName, EntitySpec, Op, Page, Record, Source,
    SourceError,
};
use async_trait::async_trait;
use jiff::tz::TimeZone;
use serde_json::value::RawValue;
use url::Url;

use crate::cursor::{Continuation, RestCursor, Run, Validator, hash};
use crate::discover::{complete, cursor_column};
use crate::mark::Mark;
use crate::pages;
use crate::request::{name_of, only_if_changed, request_for};
use crate::settings::{Pagination, RequestMethod, RestEntity};

/// A REST API.
pub(crate) struct RestSource {
    client: HttpClient,
    base: Url,
    zone: TimeZone,
    clock: Arc<dyn Clock>,
    trails: HashMap<EntityName, Trail>,
}

/// What this source remembers of a run; forgotten at no loss.
#[derive(Default)]
struct Trail {
    /// Which page led where, to notice a circle.
    led_to: HashMap<String, u32>,
    /// The cursor that was given last.
    given: Option<Cursor>,
}

/// What a poll works on.
struct Poll<'a> {
    entity: &'a EntitySpec,
    settings: RestEntity,
    cursor: RestCursor,
    run: Run,
}

impl RestSource {
    pub(crate) fn new(
        client: HttpClient,
        base: Url,
        zone: TimeZone,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { client, base, zone, clock, trails: HashMap::new() }
    }

    fn begin<'a>(
        &self,
        entity: &'a EntitySpec,
        stored: Option<&Cursor>,
    ) -> Result<Poll<'a>, SourceError> {
        let settings: RestEntity = parse_source(entity)?;
        let column = settings.incremental.as_ref().map_or("", |i| i.column.as_str());
        let cursor = RestCursor::read(stored, &format!("{:?} {column}", entity.load))?;
        let run = match &cursor.run {
            Some(run) => run.clone(),
            None => Run {
                started: RunStart::after(cursor.last, &*self.clock),
                from: self.from(entity, &settings, cursor.high.as_ref())?,
                max: None,
                page: 1,
                next: None,
                rows: 0,
                body: None,
            },
        };
        Ok(Poll { entity, settings, cursor, run })
    }

    /// The mark that a new run reads from.
    fn from(
        &self,
        entity: &EntitySpec,
        settings: &RestEntity,
        high: Option<&Mark>,
    ) -> Result<Option<Mark>, SourceError> {
        let (Some(incremental), Load::Delta) = (&settings.incremental, entity.load) else {
            return Ok(None);
        };
        let misfit =
            |what| Err(SourceError::Misconfigured(format!("entity `{}`: {what}", entity.id())));
        match (high, &incremental.initial) {
            (Some(high), _) => match high.back(incremental.overlap_seconds) {
                Some(from) => Ok(Some(from)),
                None => misfit("an overlap needs a cursor column of times or numbers"),
            },
            (None, Some(text)) => match Mark::parse(text, incremental.format, &self.zone) {
                Some(from) => Ok(Some(from)),
                None => misfit("`initial` is no value of the cursor column's format"),
            },
            (None, None) => Ok(None),
        }
    }

    async fn fetch(&mut self, poll: &Poll<'_>) -> Result<(Request, Answer), SourceError> {
        let mut request = request_for(&self.base, &poll.settings, &poll.run)?;
        let validator = poll.cursor.validator.as_ref();
        if let Some(validator) = validator
            .filter(|v| asks_conditionally(&poll.settings) && v.request == name_of(&request))
        {
            only_if_changed(&mut request, validator);
        }
        let answer = self.client.fetch(&request).await?;
        Ok((request, answer))
    }

    /// The records of a page as changes, and the highest mark among them.
    fn changes(
        &self,
        poll: &Poll<'_>,
        found: &[&RawValue],
    ) -> Result<(Vec<Record>, Option<Mark>), SourceError> {
        let cursor_column = cursor_column(poll.entity, &poll.settings)?;
        let carries =
            poll.entity.sequence_by.iter().any(|p| matches!(p, SequenceBy::Carried { .. }));
        let (mut records, mut max) = (Vec::with_capacity(found.len()), poll.run.max.clone());
        for json in found {
            let mark = match &cursor_column {
                Some((incremental, path)) => path
                    .first(json)
                    .ok()
                    .flatten()
                    .and_then(|value| Mark::read(value, incremental.format, &self.zone)),
                None => None,
            };
            let older = |from: &Mark| mark.as_ref().is_some_and(|m| m.compare(from).is_lt());
            if poll.run.from.as_ref().is_some_and(older) {
                continue;
            }
            let mut change = Change::upsert(compact(json));
            change.changed_at_ms = mark.as_ref().and_then(Mark::as_millisecond);
            if poll.entity.load == Load::Full {
                change.op = Op::Read;
                change.snapshot = Some(poll.run.started.snapshot());
            }
            if carries {
                change.sequence = poll.run.started.sequence();
            }
            max = Mark::max(max, mark);
            records.push(Record::Change(change));
        }
        Ok((records, max))
    }

    /// Refuses a page that leads back to one that was read before.
    fn follow(
        &mut self,
        poll: &Poll<'_>,
        next: &Continuation,
        body: &str,
        found: usize,
    ) -> Result<(), SourceError> {
        let run = &poll.run;
        let bad = |what: &str| Err(SourceError::BadAnswer(what.to_owned()));
        if run.page >= poll.settings.max_pages {
            return Err(SourceError::Misconfigured(format!(
                "entity `{}` has more than {} pages (`max_pages`)",
                poll.entity.id(),
                poll.settings.max_pages
            )));
        }
        let counted = matches!(next, Continuation::Page(_) | Continuation::Offset(_));
        if counted && found > 0 && run.body.as_deref() == Some(body) {
            return bad("the same page came twice in a row; check the entity's `pagination`");
        }
        let trail = self.trails.entry(poll.entity.name.clone()).or_default();
        if run.page == 1 {
            trail.led_to.clear();
        }
        let name = hash(format!("{next:?}").as_bytes());
        if run.next.as_ref() == Some(next)
            || trail.led_to.insert(name, run.page).is_some_and(|before| before < run.page)
        {
            return bad("the pages lead in a circle");
        }
        Ok(())
    }

    /// The page after which the run is finished.
    fn finish(
        &self,
        poll: Poll<'_>,
        mut records: Vec<Record>,
        request: &Request,
        answer: &Answer,
    ) -> Result<Page, SourceError> {
        let Poll { entity, settings, mut cursor, run } = poll;
        if entity.load == Load::Full {
            records.push(Record::Control(Control::SnapshotEnd {
                snapshot: run.started.snapshot(),
                sequence: run.started.sequence(),
                rows: run.rows,
            }));
        }
        let seen = run.max.map(|max| max.at_most(run.started.timestamp()));
        cursor.high = Mark::max(cursor.high, seen);
        cursor.last = Some(run.started);
        cursor.validator = None;
        if asks_conditionally(&settings) {
            let etag = answer.etag().map(str::to_owned);
            let last_modified = answer.last_modified().map(str::to_owned);
            if etag.is_some() || last_modified.is_some() {
                let request = name_of(request);
                cursor.validator = Some(Validator { request, etag, last_modified });
            }
        }
        cursor.run = None;
        Ok(Page { records, next: Some(cursor.write()?), more: false })
    }

    /// A page's address may have expired while we were away. Then the run begins anew; but once the
    /// same process is refused, somebody should hear of it first.
    fn refused(
        &mut self,
        poll: Poll<'_>,
        stored: Option<&Cursor>,
        error: SourceError,
    ) -> Result<Page, SourceError> {
        let trail = self.trails.entry(poll.entity.name.clone()).or_default();
        if poll.run.page == 1 || (stored.is_some() && trail.given.take().as_ref() == stored) {
            return Err(error);
        }
        let next = Some(poll.cursor.without_run().write()?);
        Ok(Page { records: Vec::new(), next, more: true })
    }
}

#[async_trait]
impl Source for RestSource {
    async fn discover(&mut self, declared: &[EntitySpec]) -> Result<Discovery, SourceError> {
        let mut found = Discovery::default();
        for entity in declared {
            found.add(entity.id(), complete(entity.clone()))?;
        }
        Ok(found)
    }

    async fn poll(
        &mut self,
        entity: &EntitySpec,
        stored: Option<&Cursor>,
    ) -> Result<Page, SourceError> {
        let mut poll = self.begin(entity, stored)?;
        let (request, answer) = match self.fetch(&poll).await {
            Err(error @ (SourceError::Misconfigured(_) | SourceError::TooLarge(_))) => {
                return self.refused(poll, stored, error);
            }
            other => other?,
        };
        if answer.not_modified() {
            return Ok(Page { records: Vec::new(), next: None, more: false });
        }
        let body = answer.json()?;
        let found = pages::records(&poll.settings, body)?;
        let (records, max) = self.changes(&poll, &found)?;
        let (pagination, at) = (&poll.settings.pagination, poll.run.next.as_ref());
        let next = pages::next(pagination, at, found.len() as u64, &answer, body)?;
        poll.run.max = max;
        poll.run.rows += records.len() as u64;
        let Some(mut next) = next else { return self.finish(poll, records, &request, &answer) };
        if let Continuation::Url(address) = &mut next {
            *address = self.client.without_key(address);
        }
        let body = hash(&answer.body);
        self.follow(&poll, &next, &body, found.len())?;
        let run = Run { page: poll.run.page + 1, next: Some(next), body: Some(body), ..poll.run };
        let cursor = RestCursor { run: Some(run), ..poll.cursor }.write()?;
        self.trails.entry(entity.name.clone()).or_default().given = Some(cursor.clone());
        Ok(Page { records, next: Some(cursor), more: true })
    }

    async fn acknowledge(&mut self, _: &EntitySpec, _: &Cursor) -> Result<(), SourceError> {
        // An API that is only read keeps nothing for us.
        Ok(())
    }
}

fn asks_conditionally(settings: &RestEntity) -> bool {
    settings.conditional
        && settings.method == RequestMethod::Get
        && matches!(settings.pagination, Pagination::None)
}
