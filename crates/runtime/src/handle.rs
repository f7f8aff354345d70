//! What others may ask of a runtime that is at work.

use std::sync::Arc;
use std::time::Duration;

use alluvium_model::port::Published;
use alluvium_model::{
    EncodedPage, EntityId, EntityName, EntitySpec, Layer, Position, RunId, SystemName,
};
use serde::Serialize;
use tokio::sync::watch;

use crate::context::Context;
use crate::error::RuntimeError;
use crate::push::{self, PushRun};
use crate::report::RunReport;
use crate::run::{OpenRun, RunRequest};
use crate::status::{Phase, Status};
use crate::supervisor::Supervisor;
use crate::waiting::{self, ProgressUpdate};

/// A runtime at work. Cheap to clone.
#[derive(Clone)]
pub struct RuntimeHandle {
    pub(crate) context: Arc<Context>,
    pub(crate) supervisor: Arc<Supervisor>,
}

/// What a stop left undone. Nothing of it is lost: it is on the bus, or still in its source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Left {
    /// Layers that have not landed everything, and how many messages wait for them.
    pub behind: Vec<(EntityId, Layer, u64)>,
    /// Whether runs or layers had to be broken off because the time was over.
    pub broken_off: bool,
}

impl RuntimeHandle {
    /// Runs a system, or one of its entities, by hand: waits for a run that is under way, polls,
    /// then waits until all layers have landed everything that is on its topics. A run that failed
    /// is `Ok`: its report says so.
    pub async fn ingest(
        &self,
        system: &SystemName,
        entity: Option<&EntityName>,
        progress: impl Fn(ProgressUpdate) + Send + Sync,
    ) -> Result<RunReport, RuntimeError> {
        let turn = Arc::clone(&self.context.system(system)?.turn).lock_owned().await;
        let run = self.open(system, entity, turn).await?;
        let task = self.context.runs.spawn(run.poll());
        let report = task.await.map_err(|error| RuntimeError::Defect(error.to_string()))?;
        for polled in report.entities.iter() {
            // Of an entity that does not fit its source, nothing came, and maybe nothing ever did.
            if !self.context.crew.runs(&self.context, &polled.entity).await {
                continue;
            }
            let (epoch, offset) = self.context.platform.publisher.end(&polled.entity).await?;
            let end = Position { epoch, offset, index: 0 };
            waiting::wait_applied(&self.context, &polled.entity, end, &progress).await?;
        }
        Ok(report)
    }

    /// Starts a run by hand and does not wait for it. [`RuntimeError::Busy`] where one is under
    /// way.
    pub async fn trigger(
        &self,
        system: &SystemName,
        entity: Option<&EntityName>,
    ) -> Result<RunId, RuntimeError> {
        let turn = Arc::clone(&self.context.system(system)?.turn).try_lock_owned();
        let turn = turn.map_err(|_| RuntimeError::Busy(system.clone()))?;
        let run = self.open(system, entity, turn).await?;
        let id = run.id().clone();
        self.context.runs.spawn(run.poll());
        Ok(id)
    }

    /// Publishes a page that was not polled: it has no cursor. `Ok` means that it is durable.
    pub async fn publish(
        &self,
        entity: &EntityId,
        page: EncodedPage,
    ) -> Result<Published, RuntimeError> {
        push::publish(&self.context, entity, page).await
    }

    /// Opens a run in which pages are pushed. Waits for a run of the system that is under way.
    pub async fn push(&self, entity: &EntityId) -> Result<PushRun, RuntimeError> {
        self.refuse_if_stopping()?;
        PushRun::open(&self.context, entity).await
    }

    /// Waits until all layers of the entity have landed everything up to `position`. Raw does not
    /// linger meanwhile. Ends with an error where a layer has stopped, or fails again and again.
    /// Drop the future to wait no longer.
    pub async fn wait_applied(
        &self,
        entity: &EntityId,
        position: Position,
        progress: impl Fn(ProgressUpdate) + Send + Sync,
    ) -> Result<(), RuntimeError> {
        self.context.crew.ensure_known(&self.context, entity).await?;
        waiting::wait_applied(&self.context, entity, position, &progress).await
    }

    /// The entity as it is known now: as declared, or as its source completed it.
    pub fn entity(&self, entity: &EntityId) -> Result<EntitySpec, RuntimeError> {
        self.context.entity(entity)
    }

    /// How everything stands.
    pub fn status(&self) -> Status {
        Status::of(&self.context, self.phase())
    }

    /// What the process is doing.
    pub fn phase(&self) -> Phase {
        *self.supervisor.phase.borrow()
    }

    /// Tells when that changes.
    pub fn phases(&self) -> watch::Receiver<Phase> {
        self.supervisor.phase.subscribe()
    }

    /// Stops: no further runs, polls finish their page, layers land what is on the bus, raw what it
    /// holds, and audit events are delivered. What takes longer than `drain` is broken off, which
    /// loses nothing. Stopping twice is the same as once.
    pub async fn shutdown(&self, drain: Duration) -> Left {
        self.supervisor.shutdown(&self.context, drain).await
    }

    async fn open(
        &self,
        system: &SystemName,
        entity: Option<&EntityName>,
        turn: tokio::sync::OwnedMutexGuard<()>,
    ) -> Result<OpenRun, RuntimeError> {
        self.refuse_if_stopping()?;
        let (system, entity) = (system.clone(), entity.cloned());
        let request = RunRequest { system, entity, trigger: "manual" };
        OpenRun::open(&self.context, request, turn).await
    }

    fn refuse_if_stopping(&self) -> Result<(), RuntimeError> {
        match self.context.stop.polls.is_cancelled() {
            true => Err(RuntimeError::Stopping),
            false => Ok(()),
        }
    }
}
