//! The layers at work: which entities have their layers running, and with which metadata.
//!
//! Layers of an entity start once it is known what the entity is: what its source told in this run,
//! or in an earlier one, as the ledger remembers it. Landing records by metadata that the source
//! would have completed otherwise would land them wrongly.

use std::collections::HashMap;
use std::sync::Arc;

use alluvium_model::{EntityId, EntitySpec, Layer};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::RuntimeError;
use crate::layer::{self, Job};
use crate::run::{discover, remember};

/// The layers at work.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    groups: tokio::sync::Mutex<HashMap<EntityId, Group>>,
}

/// The layers of one entity.
#[derive(Debug)]
struct Group {
    spec: EntitySpec,
    leave: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

/// The layers that an entity is to have.
pub(crate) fn layers_of(spec: &EntitySpec) -> impl Iterator<Item = Layer> {
    let (bronze, silver) = (spec.layers.bronze.enabled, spec.layers.silver.enabled);
    Layer::ALL.into_iter().filter(move |layer| match layer {
        Layer::Raw => true,
        Layer::Bronze => bronze,
        Layer::Silver => silver,
    })
}

impl Crew {
    /// Sees to it that the entity's layers run with these metadata. Layers that run with others
    /// land what they have in hand first, then start anew.
    pub(crate) async fn ensure(&self, context: &Arc<Context>, spec: &EntitySpec) {
        if context.stop.layers.is_cancelled() {
            return;
        }
        let mut groups = self.groups.lock().await;
        if let Some(group) = groups.get(&spec.id()) {
            if lands_alike(&group.spec, spec) {
                return;
            }
            tracing::info!(entity = %spec.id(), "its metadata changed; its layers start anew");
        }
        if let Some(group) = groups.remove(&spec.id()) {
            group.end().await;
        }
        groups.insert(spec.id(), Group::start(context, spec));
    }

    /// Sees to it that the entity's layers run, whatever is known of it: asks its source if nobody
    /// did before, and takes what was declared if that cannot be asked and is complete.
    pub(crate) async fn ensure_known(
        &self,
        context: &Arc<Context>,
        entity: &EntityId,
    ) -> Result<(), RuntimeError> {
        if self.runs(entity).await {
            return Ok(());
        }
        let system = context.system(&entity.system)?;
        let misfit = match discover(context, system).await {
            Ok((_, found)) => {
                remember(context, &found.entities).await;
                let failed = found.failed.into_iter().find(|(id, _)| id == entity);
                failed.map(|(_, error)| error.to_string())
            }
            Err(error) => Some(error.reason()),
        };
        if let Some(reason) = misfit {
            let spec = context.entity(entity)?;
            if spec.keys.is_empty() || spec.columns.is_empty() {
                let entity = entity.clone();
                return Err(RuntimeError::NotReady { entity, reason });
            }
            tracing::info!(%entity, reason, "its source does not tell of it; taken as declared");
        }
        let spec = context.entity(entity)?;
        self.ensure(context, &spec).await;
        Ok(())
    }

    /// Waits until all layers have ended.
    pub(crate) async fn ended(&self) {
        let groups = std::mem::take(&mut *self.groups.lock().await);
        for group in groups.into_values() {
            group.joined().await;
        }
    }

    /// Whether the entity's layers were started.
    pub(crate) async fn runs(&self, entity: &EntityId) -> bool {
        self.groups.lock().await.contains_key(entity)
    }
}

impl Group {
    fn start(context: &Arc<Context>, spec: &EntitySpec) -> Self {
        let leave = CancellationToken::new();
        let start = |layer| {
            let slot = context.board.slot(&spec.id(), layer);
            let job = Job { spec: spec.clone(), layer, slot, leave: leave.clone() };
            tokio::spawn(layer::work(Arc::clone(context), job))
        };
        let tasks = layers_of(spec).map(start).collect();
        Self { spec: spec.clone(), leave, tasks }
    }

    async fn end(self) {
        self.leave.cancel();
        self.joined().await;
    }

    async fn joined(self) {
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a layer's task ended badly");
            }
        }
    }
}

/// Whether records land the same way with both: only what people read may differ, and what is the
/// connector's own.
pub(crate) fn lands_alike(one: &EntitySpec, other: &EntitySpec) -> bool {
    let landing = |spec: &EntitySpec| EntitySpec {
        description: String::new(),
        source: serde_json::Value::Null,
        ..spec.clone()
    };
    landing(one) == landing(other)
}
