//! `alluvium bus migrate`: moves house. Everything that is on the bus is landed, then each topic
//! begins anew on another bus, as the follower of the one before.
//!
//! Until the old bus is marked as left, it is the truth, and whatever was prepared is of no account.
//! After that it is refused to everybody, and so is the new one until the lake was led to its topics.
//! Each step may be repeated, so that the command goes on where it was broken off.

mod leave;
mod sole;
mod told;

use std::collections::BTreeSet;
use std::sync::Arc;

use alluvium_bus::{Bus, Mark, Move, Standing, carry, may_leave, standing};
use alluvium_config::Settings;
use alluvium_layers::epoch;
use alluvium_model::{Clock, Cursor, CursorRecord, EntityId, Epoch, Position, SystemClock};
use alluvium_runtime::{Phase, Runtime, RuntimeHandle, Triggers};

use self::sole::Sole;
use self::told::{Row, tell};
use super::ingest::Tracker;
use super::known::known;
use super::progress::Bar;
use crate::buses;
use crate::cli::{self, Cli};
use crate::destination::Destination;
use crate::exit::{Exit, UsageError};
use crate::tenancy::{self, Tenancy};
use crate::wiring::{self, Wired};

/// Moves house. Nobody else may have the data folder open meanwhile.
pub(crate) async fn run(cli: &Cli, settings: &Settings, args: &cli::Bus) -> anyhow::Result<Exit> {
    let cli::Bus::Migrate { to } = args;
    // Read here: what is wrong with it may be a password in it, which is not to be shown again.
    let to = &to.parse::<Destination>().map_err(UsageError)?;
    let there = wiring::settings_with(cli, to.settings())?;
    if buses::place(settings) == *to {
        return Err(UsageError(format!(
            "the settings name {to} already; a move is begun, and gone on with, by the settings of \
             the bus that is left"
        ))
        .into());
    }
    let wired = wiring::wire_to_move(settings, wiring::metadata(settings)?).await?;
    let moved = migrate(cli, settings, &there, &wired, to).await;
    wired.bus.close().await;
    wired.ledger.close().await;
    tell(cli, to, &moved?)?;
    Ok(Exit::Done)
}

async fn migrate(
    cli: &Cli,
    settings: &Settings,
    there: &Settings,
    wired: &Wired,
    to: &Destination,
) -> anyhow::Result<Vec<Row>> {
    let left = wired.bus.mark().await?;
    may_leave(left.as_ref(), &to.to_string()).map_err(UsageError)?;
    // A bus that was left is nobody's.
    let is_left = matches!(left, Some(Mark::Left(_)));
    let tenancy = match wired.bus.is_shared() && !is_left {
        true => Some(Tenancy::take(&wired.bus, wired.ledger.as_ref()).await?),
        false => None,
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (mut new, _) = buses::open_any(there, Arc::clone(&clock)).await?;
    let mut reached = new.mark().await?;
    if !reached.as_ref().is_some_and(|mark| matches!(mark, Mark::Left(_))) {
        tenancy::check_vacant(new.as_ref(), wired.ledger.as_ref(), to).await?;
    }
    let stands = standing(left.as_ref(), reached.as_ref(), &to.to_string()).map_err(UsageError)?;
    if stands == Standing::BeforeAnew {
        new = buses::open_anew(there, new, clock).await?;
        reached = new.mark().await?;
    }
    let migration = Migration { cli, settings, wired, to, new, left, reached };
    let moved = migration.go(stands, tenancy).await;
    migration.new.close().await;
    moved
}

struct Migration<'a> {
    cli: &'a Cli,
    settings: &'a Settings,
    /// Everything around the bus that is left.
    wired: &'a Wired,
    to: &'a Destination,
    new: Arc<dyn Bus>,
    /// The mark that stood on the old bus as the move stood by it.
    left: Option<Mark>,
    /// And the one on the new bus.
    reached: Option<Mark>,
}

impl Migration<'_> {
    /// Goes on from where the move stands, to its end. Nobody else gets any work before that: who
    /// has opened the bus before it was left would do it there.
    async fn go(&self, stands: Standing, tenancy: Option<Tenancy>) -> anyhow::Result<Vec<Row>> {
        if matches!(stands, Standing::Done(_)) {
            return self.rows().await;
        }
        let entities = self.entities().await?;
        Sole::take(self.wired, &entities, self.to).await?.give_back().await;
        if !matches!(stands, Standing::Counts(_)) || self.is_behind(&entities).await? {
            self.land(&entities).await?;
        }
        let sole = Sole::take(self.wired, &entities, self.to).await?;
        let moved = self.go_alone(&sole, stands, tenancy).await;
        sole.give_back().await;
        moved
    }

    async fn go_alone(
        &self,
        sole: &Sole,
        stands: Standing,
        tenancy: Option<Tenancy>,
    ) -> anyhow::Result<Vec<Row>> {
        let (made, reached) = match stands {
            Standing::Counts(made) | Standing::Done(made) => (made, self.reached.clone()),
            Standing::Before | Standing::BeforeAnew => {
                let made = self.leave(sole, tenancy).await?;
                (made.clone(), Some(Mark::Arriving(made)))
            }
        };
        self.finish(sole, made, reached).await
    }

    /// Whether raw lacks something of these. Where the bus was left already, somebody has published
    /// at the very moment.
    async fn is_behind(&self, entities: &BTreeSet<EntityId>) -> anyhow::Result<bool> {
        for id in entities {
            if self.lacks(id).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn lacks(&self, id: &EntityId) -> anyhow::Result<bool> {
        let (epoch, end) = self.wired.bus.end(id).await?;
        Ok(epoch::landed(&self.wired.lake, id, epoch).await? < end)
    }

    /// Runs the layers until each has applied all that is on the bus.
    async fn land(&self, entities: &BTreeSet<EntityId>) -> anyhow::Result<()> {
        let handle = Runtime::start(self.wired.platform.clone(), Triggers::Ignored).await?;
        let tracker = Tracker::new(self.cli.quiet, "landing what is on the bus");
        let applied = self.applied(&handle, entities, &tracker).await;
        tracker.finish();
        handle.shutdown(self.settings.runtime.drain_time.duration()).await;
        applied
    }

    async fn applied(
        &self,
        handle: &RuntimeHandle,
        entities: &BTreeSet<EntityId>,
        tracker: &Tracker,
    ) -> anyhow::Result<()> {
        handle.phases().wait_for(|phase| *phase != Phase::Starting).await?;
        for id in entities {
            let (epoch, offset) = self.wired.bus.end(id).await?;
            // Of an entity that is no longer declared no layer is at work; raw is asked later.
            if offset == 0 || handle.entity(id).is_err() {
                continue;
            }
            let end = Position { epoch, offset, index: 0 };
            handle.wait_applied(id, end, |update| tracker.note(&update)).await?;
        }
        Ok(())
    }

    /// The move counts: leads the lake to the new topics, and then lets the new bus be used, on which
    /// the mark `reached` stands.
    async fn finish(
        &self,
        sole: &Sole,
        made: Move,
        reached: Option<Mark>,
    ) -> anyhow::Result<Vec<Row>> {
        // Who has found the bus unmarked is seen by now: first it told that it is there.
        sole.check().await?;
        let topics = self.topics().await?;
        self.check_whole(&topics).await?;
        let bar = Bar::new(self.cli.quiet, "leading the lake to the new topics");
        for (topic, done) in topics.iter().zip(0..) {
            bar.set(done, topics.len() as u64);
            let (next, _) = self.new.end(topic).await?;
            epoch::accept(&self.wired.lake, topic, next).await?;
        }
        bar.finish();
        self.put(&self.new, &Mark::Arrived(made), reached.as_ref()).await?;
        self.rows().await
    }

    /// Puts a mark on one of both buses. Fails where another stands there than `before`: somebody else
    /// has gone on with the move, may have ended it, and the new bus be in use.
    async fn put(
        &self,
        bus: &Arc<dyn Bus>,
        mark: &Mark,
        before: Option<&Mark>,
    ) -> anyhow::Result<()> {
        match bus.put_mark(mark, before).await? {
            true => Ok(()),
            false => Err(self.moved_by_another()),
        }
    }

    fn moved_by_another(&self) -> anyhow::Error {
        anyhow::anyhow!(
            "somebody else moves to {} at the same time, or has: give the command again once it has \
             ended, and it tells where the move stands",
            self.to
        )
    }

    /// What came at the very moment at which the bus was left goes along, too: raw must have it, and
    /// the source is read on after it.
    async fn check_whole(&self, topics: &[EntityId]) -> anyhow::Result<()> {
        for topic in topics {
            if self.lacks(topic).await? {
                return Err(published_meanwhile(topic));
            }
            carry(self.wired.bus.as_ref(), self.new.as_ref(), topic).await?;
        }
        Ok(())
    }

    /// How far the source of a topic was read, if it was.
    async fn read_to(&self, topic: &EntityId) -> anyhow::Result<Option<CursorRecord>> {
        let record = self.wired.bus.cursor(topic).await?;
        Ok(record.filter(|record| record.cursor != Cursor::beginning()))
    }

    /// What became of each topic.
    async fn rows(&self) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::new();
        for topic in self.topics().await? {
            let (Epoch(to_epoch), _) = self.new.end(&topic).await?;
            let epochs = epoch::epochs(&self.wired.lake, &topic).await?;
            let step = epochs.accepted.iter().find(|step| step.to == Epoch(to_epoch));
            rows.push(Row {
                entity: topic.to_string(),
                from_epoch: step.map(|step| step.from.0),
                from_end: step.map(|step| step.end),
                to_epoch,
                page: self.read_to(&topic).await?.map(|record| record.page),
            });
        }
        Ok(rows)
    }

    /// All entities that are declared, that a source told of, or that have a topic: one that is
    /// declared no more may have messages there that nobody has landed.
    async fn entities(&self) -> anyhow::Result<BTreeSet<EntityId>> {
        let known = known(self.settings, self.wired.ledger.as_ref()).await?;
        let mut ids: BTreeSet<EntityId> = known.iter().map(|known| known.spec.id()).collect();
        ids.extend(self.wired.bus.topics().await?);
        Ok(ids)
    }

    /// Those of which there is anything: messages, a cursor, or something in the lake.
    async fn topics(&self) -> anyhow::Result<Vec<EntityId>> {
        let mut topics = Vec::new();
        for id in self.entities().await? {
            let (_, end) = self.wired.bus.end(&id).await?;
            let is_used = end > 0
                || self.read_to(&id).await?.is_some()
                || epoch::known(&self.wired.lake, &id).await?.last.is_some();
            topics.extend(is_used.then_some(id));
        }
        Ok(topics)
    }
}

fn published_meanwhile(topic: &EntityId) -> anyhow::Error {
    anyhow::anyhow!(
        "{topic} was published meanwhile: stop all that use this bus, then give the command again"
    )
}
