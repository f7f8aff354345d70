//! A source whose rows are numbers, and which fails as a test tells it to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, LazyLock, Mutex};

use alluvium_connector::{ConnectContext, Connector};
use alluvium_model::{
    Change, Cursor, Discovery, EntityId, EntitySpec, Page, Record, Source, SourceError, SystemSpec,
};
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

static SCRIPTS: LazyLock<Mutex<HashMap<String, Arc<Script>>>> = LazyLock::new(Mutex::default);

/// The script of the system whose connection says `script: key`.
pub fn script(key: &str) -> Arc<Script> {
    Arc::clone(SCRIPTS.lock().unwrap().entry(key.to_owned()).or_default())
}

/// What goes wrong with one poll.
pub enum Fault {
    /// It fails.
    Fail(SourceError),
    /// The connector panics.
    Panic,
    /// The poll waits until the other end is used or dropped.
    Hold(oneshot::Receiver<()>),
    /// An answer that is what it is.
    Page(Page),
}

/// What a source has, what goes wrong with it, and what was asked of it.
#[derive(Default)]
pub struct Script {
    /// How many rows each entity has: 1, 2, 3, …
    pub rows: Mutex<BTreeMap<String, u64>>,
    /// What goes wrong with the next polls of each entity.
    pub faults: Mutex<BTreeMap<String, VecDeque<Fault>>>,
    /// If set, connecting fails.
    pub down: Mutex<bool>,
    /// Entities that do not fit the source.
    pub misfits: Mutex<Vec<EntityId>>,
    /// Cursors that polls came with.
    pub asked: Mutex<Vec<Option<Value>>>,
    /// Cursors that were acknowledged, in order.
    pub acknowledged: Mutex<Vec<Value>>,
}

/// How many rows a page has.
const PAGE: u64 = 10;

impl Script {
    /// The entity has so many rows.
    pub fn has(&self, entity: &str, rows: u64) {
        self.rows.lock().unwrap().insert(entity.to_owned(), rows);
    }

    /// The next poll that has no fault yet meets this one.
    pub fn fault(&self, entity: &str, fault: Fault) {
        self.faults.lock().unwrap().entry(entity.to_owned()).or_default().push_back(fault);
    }

    /// The cursors that were acknowledged, as numbers.
    pub fn acks(&self) -> Vec<u64> {
        self.acknowledged.lock().unwrap().iter().map(|v| v.as_u64().unwrap()).collect()
    }

    fn next_fault(&self, entity: &str) -> Option<Fault> {
        self.faults.lock().unwrap().get_mut(entity)?.pop_front()
    }
}

/// The connection of a system of type `fake`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Connection {
    script: String,
}

/// The source part of a fake entity.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Nothing {}

/// The connector of type `fake`.
pub struct Fake(Arc<Script>);

#[async_trait]
impl Connector for Fake {
    type Connection = Connection;
    type EntitySource = Nothing;
    const TYPE: &'static str = "fake";

    async fn connect(
        _: &SystemSpec,
        connection: Connection,
        _: ConnectContext,
    ) -> Result<Box<dyn Source>, SourceError> {
        let script = script(&connection.script);
        if *script.down.lock().unwrap() {
            return Err(SourceError::Unavailable("nobody answers".to_owned()));
        }
        Ok(Box::new(Fake(script)))
    }
}

#[async_trait]
impl Source for Fake {
    async fn discover(&mut self, declared: &[EntitySpec]) -> Result<Discovery, SourceError> {
        let misfits = self.0.misfits.lock().unwrap().clone();
        let mut found = Discovery::default();
        for entity in declared {
            let misfit = SourceError::Misconfigured("as told".to_owned());
            let fits = !misfits.contains(&entity.id());
            found.add(entity.id(), if fits { Ok(entity.clone()) } else { Err(misfit) })?;
        }
        Ok(found)
    }

    async fn poll(
        &mut self,
        entity: &EntitySpec,
        cursor: Option<&Cursor>,
    ) -> Result<Page, SourceError> {
        let name = entity.name.as_str();
        self.0.asked.lock().unwrap().push(cursor.map(|c| c.0.clone()));
        match self.0.next_fault(name) {
            Some(Fault::Fail(error)) => return Err(error),
            Some(Fault::Panic) => panic!("as told"),
            Some(Fault::Page(page)) => return Ok(page),
            Some(Fault::Hold(held)) => drop(held.await),
            None => {}
        }
        let all = self.0.rows.lock().unwrap().get(name).copied().unwrap_or(0);
        let after = cursor.and_then(|c| c.0.as_u64()).unwrap_or(0);
        let to = all.min(after + PAGE);
        let row = |n| RawValue::from_string(format!(r#"{{"id":{n}}}"#)).unwrap();
        let records = (after + 1..=to).map(|n| Record::Change(Change::upsert(row(n))));
        Ok(Page {
            records: records.collect(),
            next: (to > after).then(|| Cursor(Value::from(to))),
            more: to < all,
        })
    }

    async fn acknowledge(&mut self, _: &EntitySpec, cursor: &Cursor) -> Result<(), SourceError> {
        self.0.acknowledged.lock().unwrap().push(cursor.0.clone());
        Ok(())
    }
}
