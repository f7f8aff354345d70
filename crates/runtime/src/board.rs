//! Where each layer of each entity stands, for all who wait for it or look at it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use alluvium_model::{EntityId, Epoch, Layer};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::watch;

/// What a layer is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerPhase {
    /// It asks the lake how far it got.
    #[default]
    Starting,
    /// It reads from the bus.
    Running,
    /// It reads from raw, because the bus no longer has what it needs.
    Replaying,
    /// It failed and tries again.
    Retrying,
    /// It failed for good; somebody must act.
    Stopped,
    /// It was asked to end, and did.
    Ended,
    /// Another process has it, or may have it by now.
    Elsewhere,
}

/// How a layer of an entity stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LayerState {
    /// What it is doing.
    pub phase: LayerPhase,
    /// The topic's incarnation that it is at, as far as it is known.
    pub epoch: Option<Epoch>,
    /// The offset of the last message that is durable in the layer.
    pub applied: u64,
    /// Batches since the process started.
    pub batches: u64,
    /// Records since the process started.
    pub records: u64,
    /// When the last batch became durable.
    pub last_batch_at: Option<Timestamp>,
    /// The last error, until a batch succeeds.
    pub error: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Whether it stopped for something that another process may have: room on its disk.
    #[serde(skip)]
    pub is_local: bool,
}

/// The layers of all entities that were ever started.
#[derive(Debug, Default)]
pub(crate) struct Board {
    slots: Mutex<BTreeMap<(EntityId, Layer), Arc<Slot>>>,
}

/// The place of one layer of one entity.
#[derive(Debug)]
pub(crate) struct Slot {
    state: watch::Sender<LayerState>,
    /// Up to which offset somebody waits for the layer.
    wanted: watch::Sender<u64>,
}

impl Board {
    pub(crate) fn slot(&self, entity: &EntityId, layer: Layer) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry((entity.clone(), layer)).or_default())
    }

    pub(crate) fn of(&self, entity: &EntityId) -> Vec<(Layer, Arc<Slot>)> {
        let all = self.all().into_iter();
        all.filter(|((of, _), _)| of == entity).map(|((_, layer), slot)| (layer, slot)).collect()
    }

    pub(crate) fn all(&self) -> Vec<((EntityId, Layer), Arc<Slot>)> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.iter().map(|(key, slot)| (key.clone(), Arc::clone(slot))).collect()
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self { state: watch::channel(LayerState::default()).0, wanted: watch::channel(0).0 }
    }
}

impl Slot {
    pub(crate) fn state(&self) -> LayerState {
        self.state.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<LayerState> {
        self.state.subscribe()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut LayerState)) {
        self.state.send_modify(change);
    }

    /// Asks the layer not to linger up to `offset`.
    pub(crate) fn want(&self, offset: u64) {
        self.wanted.send_if_modified(|wanted| {
            let more = offset > *wanted;
            *wanted = (*wanted).max(offset);
            more
        });
    }

    pub(crate) fn wanted(&self) -> watch::Receiver<u64> {
        self.wanted.subscribe()
    }
}
