//! The layers at work here: which layers of which entities, and with which metadata.
//!
//! Layers of an entity start once it is known what the entity is: what its source told in this run,
//! or in an earlier one, as the ledger remembers it. Landing records by metadata that the source
//! would have completed otherwise would land them wrongly.
//!
//! Where one process does everything, all layers of an entity run. Where several share the work,
//! those run of which this process has the lease: the [`workforce`](crate::workforce) says which.

use std::collections::HashMap;
use std::sync::Arc;

use alluvium_model::{EntityId, EntitySpec, Layer, Ownership};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::RuntimeError;
use crate::layer::{self, Job};
use crate::run::{discover, remember};

type Members = HashMap<(EntityId, Layer), Member>;

/// The layers at work.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    members: tokio::sync::Mutex<Members>,
}

/// One layer of one entity.
#[derive(Debug)]
struct Member {
    spec: EntitySpec,
    owner: Option<Ownership>,
    leave: CancellationToken,
    cut: CancellationToken,
    task: JoinHandle<()>,
    /// Cancelled when it has ended, however it did.
    done: CancellationToken,
}

/// The layers that an entity is to have.
pub(crate) fn layers_of(spec: &EntitySpec) -> impl Iterator<Item = Layer> + use<> {
    let (bronze, silver) = (spec.layers.bronze.enabled, spec.layers.silver.enabled);
    Layer::ALL.into_iter().filter(move |layer| match layer {
        Layer::Raw => true,
        Layer::Bronze => bronze,
        Layer::Silver => silver,
    })
}

/// Whether it is known of an entity what is needed to land it.
pub(crate) fn is_ready(spec: &EntitySpec) -> bool {
    !spec.keys.is_empty() && !spec.columns.is_empty()
}

impl Crew {
    /// Sees to it that the entity's layers run with these metadata. Layers that run with others
    /// land what they have in hand first, then start anew.
    pub(crate) async fn ensure(&self, context: &Arc<Context>, spec: &EntitySpec) {
        if context.stop.layers.is_cancelled() {
            return;
        }
        let mut members = self.members.lock().await;
        restart(&mut members, context, spec).await;
        if let Some(workforce) = &context.workforce {
            workforce.wake();
            return;
        }
        for layer in layers_of(spec) {
            let of = (spec.id(), layer);
            members.entry(of).or_insert_with(|| Member::start(context, spec, layer, None));
        }
    }

    /// Starts a layer of which this process has the lease. False while what ran here before has not
    /// come to its end: two at a time must not be.
    pub(crate) async fn take(
        &self,
        context: &Arc<Context>,
        spec: &EntitySpec,
        layer: Layer,
        owner: Ownership,
    ) -> bool {
        let mut members = self.members.lock().await;
        let of = (spec.id(), layer);
        if members.get(&of).is_some_and(|member| !member.task.is_finished()) {
            return false;
        }
        members.insert(of, Member::start(context, spec, layer, Some(owner)));
        true
    }

    /// Lets a layer land what it has in hand, and waits until it has ended. It stays listed until
    /// then: who looks meanwhile must not believe that it has.
    pub(crate) async fn give_up(&self, entity: &EntityId, layer: Layer) {
        let of = (entity.clone(), layer);
        while let Some(done) = self.ask_to_leave(&of).await {
            done.cancelled().await;
        }
    }

    /// What is cancelled when a layer that was asked to leave has ended. `None` once it has.
    async fn ask_to_leave(&self, of: &(EntityId, Layer)) -> Option<CancellationToken> {
        let mut members = self.members.lock().await;
        let member = members.get(of)?;
        if member.done.is_cancelled() {
            members.remove(of);
            return None;
        }
        member.leave.cancel();
        Some(member.done.clone())
    }

    /// Breaks a layer off, which is another's by now. It may take a moment until it has ended.
    pub(crate) async fn cut(&self, entity: &EntityId, layer: Layer) {
        if let Some(member) = self.members.lock().await.get(&(entity.clone(), layer)) {
            member.cut.cancel();
        }
    }

    /// Whether a layer has ended by itself, or never ran.
    pub(crate) async fn has_ended(&self, entity: &EntityId, layer: Layer) -> bool {
        let members = self.members.lock().await;
        members.get(&(entity.clone(), layer)).is_none_or(|member| member.task.is_finished())
    }

    /// Sees to it that the entity's layers run, whatever is known of it: asks its source if nobody
    /// did before, and takes what was declared if that cannot be asked and is complete.
    pub(crate) async fn ensure_known(
        &self,
        context: &Arc<Context>,
        entity: &EntityId,
    ) -> Result<(), RuntimeError> {
        if self.runs(context, entity).await {
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
            if !is_ready(&context.entity(entity)?) {
                let entity = entity.clone();
                return Err(RuntimeError::NotReady { entity, reason });
            }
            tracing::info!(%entity, reason, "its source does not tell of it; taken as declared");
        }
        let spec = context.entity(entity)?;
        self.ensure(context, &spec).await;
        Ok(())
    }

    /// Waits until all layers have ended. Those that others may go on with only land what they have
    /// in hand. They stay listed until then, so that no lease is given back before.
    pub(crate) async fn ended(&self) {
        while let Some(done) = self.unfinished().await {
            done.cancelled().await;
        }
        let members = std::mem::take(&mut *self.members.lock().await);
        for member in members.into_values() {
            member.joined().await;
        }
    }

    /// What is cancelled when a layer has ended that has not yet; `None` once all have.
    async fn unfinished(&self) -> Option<CancellationToken> {
        let members = self.members.lock().await;
        for member in members.values().filter(|member| member.owner.is_some()) {
            member.leave.cancel();
        }
        members.values().map(|member| &member.done).find(|done| !done.is_cancelled()).cloned()
    }

    /// Whether the entity's layers were started, here or wherever else they are to run.
    pub(crate) async fn runs(&self, context: &Context, entity: &EntityId) -> bool {
        if context.workforce.is_some() {
            return context.entity(entity).is_ok_and(|spec| is_ready(&spec));
        }
        self.members.lock().await.keys().any(|(of, _)| of == entity)
    }
}

/// Starts those layers of an entity anew that run with other metadata.
async fn restart(members: &mut Members, context: &Arc<Context>, spec: &EntitySpec) {
    let differs = |member: &Member| !lands_alike(&member.spec, spec);
    let of: Vec<_> = members
        .iter()
        .filter(|((entity, _), member)| *entity == spec.id() && differs(member))
        .map(|(of, _)| of.clone())
        .collect();
    if !of.is_empty() {
        tracing::info!(entity = %spec.id(), "its metadata changed; its layers start anew");
    }
    let mut ended = Vec::new();
    for of in of {
        let Some(member) = members.remove(&of) else { continue };
        member.leave.cancel();
        ended.push((of, member));
    }
    for (of, member) in ended {
        let owner = member.owner.clone();
        member.joined().await;
        if layers_of(spec).any(|layer| layer == of.1) {
            let layer = of.1;
            members.insert(of, Member::start(context, spec, layer, owner));
        }
    }
}

impl Member {
    fn start(
        context: &Arc<Context>,
        spec: &EntitySpec,
        layer: Layer,
        owner: Option<Ownership>,
    ) -> Self {
        let (leave, cut) = (CancellationToken::new(), CancellationToken::new());
        let slot = context.board.slot(&spec.id(), layer);
        let job = Job {
            spec: spec.clone(),
            layer,
            slot,
            leave: leave.clone(),
            cut: cut.clone(),
            owner: owner.clone(),
        };
        let (done, work) = (CancellationToken::new(), layer::work(Arc::clone(context), job));
        let ending = done.clone().drop_guard();
        let task = tokio::spawn(async move {
            work.await;
            drop(ending);
        });
        Self { spec: spec.clone(), owner, leave, cut, task, done }
    }

    async fn joined(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a layer's task ended badly");
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
