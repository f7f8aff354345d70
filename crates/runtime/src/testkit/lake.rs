//! Layers in memory, which fail as a test tells them to. Raw lingers until it is flushed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use crate::platform::Stages;
use alluvium_model::outcome::Progress;
use alluvium_model::{
    Applied, BatchId, BusError, Checksum, Counts, Delivery, EntityId, EntitySpec, Epoch, Epochs,
    FencingToken, FetchLimit, Layer, Maintained, Message, Ownership, Position, Quarantined,
    RowsWritten, Span, Stage, StageError, Subscriber, Succession, Upkeep,
};
use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::oneshot;

/// The id of rows that silver refuses.
pub const POISON: u64 = 1_313;

/// What goes wrong with one call of `apply`.
pub enum Fault {
    /// Nothing is landed.
    Fail(StageError),
    /// It was landed, but failure is reported.
    FailAfterWrite,
    /// The layer panics.
    Panic,
    /// It waits until the other end is used or dropped.
    Hold(oneshot::Receiver<()>),
    /// Its thread stands still until the other end is used or dropped, as that of a process that was
    /// stopped: nobody can break it off.
    Freeze(mpsc::Receiver<()>),
}

/// What one layer of one entity has landed.
#[derive(Default)]
pub struct Landed {
    /// How far it got.
    pub progress: Option<Progress>,
    /// What it landed, in order.
    pub messages: Vec<Arc<Message>>,
    /// What goes wrong with the next calls of `apply`.
    pub faults: VecDeque<Fault>,
    /// Raw's: which epochs follow which.
    pub accepted: Vec<Succession>,
    /// Where several processes share the work: the latest owner that looked at it.
    pub owner: Option<FencingToken>,
    /// By whom each batch was landed.
    pub written_by: Vec<Option<FencingToken>>,
    /// Who tried to land and was not the owner any more.
    pub fenced: Vec<Option<FencingToken>>,
    /// The next flush waits until the other end is used or dropped.
    pub held_flush: Option<oneshot::Receiver<()>>,
    /// The thread of who asks next how far the layer is stands still with the answer, until the
    /// other end is used or dropped.
    pub frozen_progress: Option<mpsc::Receiver<()>>,
    /// How often somebody looked after it who does not write it.
    pub followed: u64,
    /// The next look of who does not write it waits until the other end is used or dropped.
    pub held_follow: Option<oneshot::Receiver<()>>,
    /// Why nobody can follow it, as long as nobody can.
    pub unfollowable: Option<String>,
    /// By whom the stage was opened, and with which metadata.
    pub opened: Vec<Opening>,
    /// How often it was read as raw.
    pub replayed: usize,
    /// How often it was asked for upkeep.
    pub maintained: usize,
    /// What goes wrong with the next upkeep.
    pub upkeep_faults: VecDeque<StageError>,
}

/// A stage was opened.
pub struct Opening {
    /// By what right it writes; `None` where nobody else could write, and where it only follows.
    pub owner: Option<FencingToken>,
    /// What it was told of the entity.
    pub spec: EntitySpec,
}

/// The lake as the runtime sees it.
pub struct SharedLake(pub Arc<Lake>);

/// All layers of all entities.
#[derive(Default)]
pub struct Lake {
    layers: Mutex<BTreeMap<(EntityId, Layer), Landed>>,
    /// Whether it takes also what comes of who is not the owner any more. Then only the runtime
    /// keeps those from writing.
    pub takes_all: AtomicBool,
}

impl Lake {
    /// Looks at one layer of one entity, or alters it.
    pub fn with<T>(&self, entity: &str, layer: Layer, look: impl FnOnce(&mut Landed) -> T) -> T {
        let mut all = self.layers.lock().unwrap();
        look(all.entry((entity.parse().unwrap(), layer)).or_default())
    }

    /// The next call of `apply` that has no fault yet meets this one.
    pub fn fault(&self, entity: &str, layer: Layer, fault: Fault) {
        self.with(entity, layer, |landed| landed.faults.push_back(fault));
    }

    /// The ids of the rows that the layer has, in its order.
    pub fn ids(&self, entity: &str, layer: Layer) -> Vec<u64> {
        self.with(entity, layer, |landed| {
            let lines = landed.messages.iter().flat_map(|m| m.lines());
            let rows = lines.map(|line| serde_json::from_slice::<Value>(line).unwrap());
            rows.map(|row| row["after"]["id"].as_u64().unwrap()).collect()
        })
    }

    /// Every layer has exactly the rows from 1 to `rows`, in order.
    pub fn assert_holds(&self, entity: &str, rows: u64) {
        for layer in Layer::ALL {
            let expected: Vec<u64> = (1..=rows).collect();
            assert_eq!(self.ids(entity, layer), expected, "{layer} of {entity}");
        }
    }
}

#[async_trait]
impl Stages for SharedLake {
    async fn open(
        &self,
        entity: &EntitySpec,
        _: &str,
        layer: Layer,
        owner: Option<&Ownership>,
    ) -> Result<Box<dyn Stage>, StageError> {
        let name = entity.id().to_string();
        let opening = Opening { owner: owner.map(Ownership::token), spec: entity.clone() };
        self.0.with(&name, layer, |landed| landed.opened.push(opening));
        let (lake, owner) = (Arc::clone(&self.0), owner.cloned());
        Ok(Box::new(Fake { lake, name, layer, owner, held: Vec::new() }))
    }

    fn refuses(&self, _: &EntitySpec, layer: Layer) -> bool {
        layer == Layer::Silver
    }

    async fn refused(
        &self,
        _: &EntitySpec,
        _: &str,
        delivery: &Delivery,
    ) -> Result<Vec<Quarantined>, StageError> {
        Ok(poison(Layer::Silver, &delivery.messages))
    }

    async fn epochs(&self, entity: &EntityId) -> Result<Epochs, StageError> {
        let name = entity.to_string();
        let accepted = self.0.with(&name, Layer::Raw, |raw| raw.accepted.clone());
        let (first, last) = self.0.with(&name, Layer::Raw, |raw| {
            let of = |m: &Arc<Message>| m.epoch;
            (raw.messages.first().map(of), raw.messages.last().map(of))
        });
        Ok(Epochs { first, last: last.max(accepted.last().map(|step| step.to)), accepted })
    }

    async fn replay(
        &self,
        entity: &EntityId,
        after: Option<Position>,
    ) -> Result<Box<dyn Subscriber>, BusError> {
        let messages = self.0.with(&entity.to_string(), Layer::Raw, |raw| {
            raw.replayed += 1;
            raw.messages.clone()
        });
        let (epoch, at) = match after {
            Some(after) => (after.epoch, after.offset),
            None => (messages.first().map_or(Epoch(0), |m| m.epoch), 0),
        };
        Ok(Box::new(Replay { entity: entity.clone(), messages, epoch, at }))
    }
}

struct Fake {
    lake: Arc<Lake>,
    name: String,
    layer: Layer,
    owner: Option<Ownership>,
    held: Vec<Arc<Message>>,
}

impl Fake {
    /// Lands what is held, if the layer is ours: by the clock, and by what others wrote.
    fn land(&mut self) -> Result<Vec<Applied>, StageError> {
        let messages = std::mem::take(&mut self.held);
        let (name, layer) = (self.name.clone(), self.layer);
        let token = self.owner.as_ref().map(Ownership::token);
        self.lake.with(&name, layer, |landed| {
            let is_over = self.owner.as_ref().is_some_and(|owner| !owner.holds());
            if is_over || landed.owner > token {
                landed.fenced.push(token);
                if !self.lake.takes_all.load(Ordering::Relaxed) {
                    return Err(StageError::Fenced("as it should be".to_owned()));
                }
            }
            let applied = land(landed, &name, layer, messages);
            landed.written_by.extend(applied.iter().map(|_| token));
            Ok(applied)
        })
    }
}

fn land(
    landed: &mut Landed,
    name: &str,
    layer: Layer,
    messages: Vec<Arc<Message>>,
) -> Vec<Applied> {
    let Some(epoch) = messages.first().map(|m| m.epoch) else { return Vec::new() };
    let before = landed.progress.map(|p| match p.epoch == epoch {
        true => p,
        false => {
            let (from, end, to) = (p.epoch, p.offset, epoch);
            p.go_on(&Epochs { accepted: vec![Succession { from, end, to }], ..Epochs::default() })
        }
    });
    let at = before.map_or(0, |p| p.offset);
    let messages: Vec<_> = messages.into_iter().filter(|m| m.offset > at).collect();
    let Some(last) = messages.last().cloned() else { return Vec::new() };
    let records: u64 = messages.iter().map(|m| u64::from(m.records)).sum();
    let checksum: Checksum = messages.iter().map(|m| checksum(m)).sum();
    let quarantined = poison(layer, &messages);
    let refused = quarantined.len() as u64;
    let inserted = records - refused;
    let counts = Counts { records, inserted, quarantined: refused, ..Counts::default() };
    let mut progress = before.unwrap_or(Progress {
        epoch: last.epoch,
        offset: 0,
        totals: Counts::default(),
        checksum: Checksum::default(),
        former: Default::default(),
    });
    progress.offset = last.offset;
    progress.totals += counts;
    progress.checksum += checksum;
    landed.progress = Some(progress);
    landed.messages.extend(messages);
    let span = Span { epoch: last.epoch, after: at, to: last.offset };
    vec![Applied {
        layer,
        batch: BatchId::of(layer, &name.parse().unwrap(), &span),
        span,
        counts,
        rows: RowsWritten { opened: inserted, ..RowsWritten::default() },
        checksum,
        quarantined,
        version: None,
        bytes: 1,
        published_at_us: last.published_at_us,
    }]
}

/// What silver refuses: every record whose row has the id [`POISON`].
fn poison(layer: Layer, messages: &[Arc<Message>]) -> Vec<Quarantined> {
    let mut refused = Vec::new();
    for message in messages.iter().filter(|_| layer == Layer::Silver) {
        for (index, line) in (0..).zip(message.lines()) {
            let row: Value = serde_json::from_slice(line).unwrap();
            if row["after"]["id"] == POISON {
                refused.push(Quarantined {
                    position: message.position(index),
                    code: "poison".to_owned(),
                    reason: "as told".to_owned(),
                    bytes: line.to_vec(),
                });
            }
        }
    }
    refused
}

fn checksum(message: &Message) -> Checksum {
    let lines = message.lines().zip(0..);
    lines.map(|(line, index)| Checksum::of(&message.position(index), line)).sum()
}

#[async_trait]
impl Stage for Fake {
    fn layer(&self) -> Layer {
        self.layer
    }

    async fn progress(&mut self) -> Result<Option<Progress>, StageError> {
        let token = self.owner.as_ref().map(Ownership::token);
        let (progress, frozen) = self.lake.with(&self.name, self.layer, |landed| {
            landed.owner = landed.owner.max(token);
            (landed.progress, landed.frozen_progress.take())
        });
        if let Some(frozen) = frozen {
            tokio::task::block_in_place(|| frozen.recv()).ok();
        }
        Ok(progress)
    }

    async fn apply(&mut self, delivery: &Delivery) -> Result<Vec<Applied>, StageError> {
        let fault = self.lake.with(&self.name, self.layer, |landed| landed.faults.pop_front());
        self.held.extend(delivery.messages.iter().cloned());
        match fault {
            Some(Fault::Fail(error)) => return Err(error),
            Some(Fault::Panic) => panic!("as told"),
            Some(Fault::FailAfterWrite) => {
                self.land()?;
                return Err(StageError::Unavailable("the answer was lost".to_owned()));
            }
            Some(Fault::Hold(held)) => drop(held.await),
            Some(Fault::Freeze(frozen)) => {
                tokio::task::block_in_place(|| frozen.recv()).ok();
            }
            None => {}
        }
        if self.layer == Layer::Raw { Ok(Vec::new()) } else { self.land() }
    }

    async fn flush(&mut self) -> Result<Vec<Applied>, StageError> {
        let held = self.lake.with(&self.name, self.layer, |landed| landed.held_flush.take());
        if let Some(held) = held {
            drop(held.await);
        }
        self.land()
    }

    async fn follow(&mut self) -> Result<(), StageError> {
        let held = self.lake.with(&self.name, self.layer, |landed| landed.held_follow.take());
        if let Some(held) = held {
            drop(held.await);
        }
        self.lake.with(&self.name, self.layer, |landed| match &landed.unfollowable {
            Some(reason) => Err(StageError::Unavailable(reason.clone())),
            None => {
                landed.followed += 1;
                Ok(())
            }
        })
    }

    async fn maintain(&mut self, _: Upkeep) -> Result<Maintained, StageError> {
        self.lake.with(&self.name, self.layer, |landed| {
            landed.maintained += 1;
            landed.upkeep_faults.pop_front().map_or(Ok(Maintained::default()), Err)
        })
    }
}

struct Replay {
    entity: EntityId,
    messages: Vec<Arc<Message>>,
    epoch: Epoch,
    at: u64,
}

#[async_trait]
impl Subscriber for Replay {
    async fn fetch(&mut self, _: FetchLimit) -> Result<Delivery, BusError> {
        let here = |m: &&Arc<Message>| m.epoch == self.epoch && m.offset > self.at;
        let next = self.messages.iter().find(here).cloned();
        let to = next.as_ref().map_or(self.at, |m| m.offset);
        let span = Span { epoch: self.epoch, after: self.at, to };
        self.at = to;
        Ok(Delivery { entity: self.entity.clone(), span, messages: next.into_iter().collect() })
    }

    async fn commit(&mut self, _: &Span) -> Result<(), BusError> {
        Ok(())
    }

    async fn seek(&mut self, after: &Position) -> Result<(), BusError> {
        (self.epoch, self.at) = (after.epoch, after.offset);
        Ok(())
    }
}
