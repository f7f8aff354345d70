//! Why the runtime did not do as asked.

use std::time::Duration;

use alluvium_ledger::LedgerError;
use alluvium_model::{BusError, EntityId, Layer, Remedy, SourceError, StageError, SystemName};
use jiff::Timestamp;

use crate::pulse::NoBeat;
use crate::recorder::RecordError;
use crate::trigger::ScheduleError;

/// Why the runtime did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is no such system.
    #[error("there is no system `{0}`")]
    UnknownSystem(SystemName),
    /// There is no such entity.
    #[error("there is no entity `{0}`")]
    UnknownEntity(EntityId),
    /// The system has a run already.
    #[error("system `{0}` has a run already")]
    Busy(SystemName),
    /// Another process polls the entity, or pushes pages to it.
    #[error(
        "another process (`{holder}`) polls or pushes `{entity}`: its lease lasts until {until}, and \
         is prolonged for as long as it lives"
    )]
    Held {
        /// The entity.
        entity: EntityId,
        /// Who it is.
        holder: String,
        /// How long its lease lasts, by the ledger's clock.
        until: Timestamp,
    },
    /// Others may poll the entity, or push pages to it: the lease ran out.
    #[error("the lease of `{0}` was lost: another process may poll or push it now")]
    LeaseLost(EntityId),
    /// The process is about to end.
    #[error("the runtime is stopping")]
    Stopping,
    /// A trigger cannot be understood.
    #[error("a trigger of system `{system}` cannot be understood: {source}")]
    Trigger {
        /// The system.
        system: SystemName,
        /// What is wrong with it.
        #[source]
        source: ScheduleError,
    },
    /// Neither the metadata nor the source tell what is needed to land the entity.
    #[error("entity `{entity}` cannot be landed yet: {reason}")]
    NotReady {
        /// The entity.
        entity: EntityId,
        /// What is missing.
        reason: String,
    },
    /// A layer has stopped, so that what was waited for will not come.
    #[error("{layer} of `{entity}` has stopped: {reason}")]
    LayerStopped {
        /// The layer.
        layer: Layer,
        /// The entity.
        entity: EntityId,
        /// Why it stopped.
        reason: String,
    },
    /// The ledger hangs.
    #[error("the ledger did not answer in time")]
    Silent,
    /// Other processes have the entity's layers, and did not give them back.
    #[error("the workers did not give the layers of `{0}` back in time")]
    NotGiven(EntityId),
    /// The bus did not do as asked.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The ledger did not do as asked.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The lake did not do as asked.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A defect of ours.
    #[error("defect: {0}")]
    Defect(String),
}

impl RuntimeError {
    /// What mends it.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::UnknownSystem(_) | Self::UnknownEntity(_) => {
                Remedy::Operator("check the name; `alluvium validate` lists what there is")
            }
            Self::Busy(_) | Self::Silent => Remedy::Retry,
            Self::Held { .. } => Remedy::Operator("try again when that process is done"),
            Self::LeaseLost(_) => Remedy::Operator(
                "publish again: a file is gone on with where this ended; of stdin all is published \
                 anew, and is there twice where the entity declares no order",
            ),
            Self::Stopping => Remedy::Operator("start the process again"),
            Self::NotGiven(_) => Remedy::Operator("try again, or stop the worker that has them"),
            Self::Trigger { .. } => Remedy::Operator("mend the system's `triggers`"),
            Self::NotReady { .. } => Remedy::Operator(
                "declare the entity's keys and columns, or make its source reachable",
            ),
            Self::LayerStopped { .. } => {
                Remedy::Operator("mend what stopped the layer, then start again")
            }
            Self::Bus(error) => error.remedy(),
            Self::Ledger(error) => error.remedy(),
            Self::Stage(error) => error.remedy(),
            Self::Defect(_) => Remedy::Bug,
        }
    }
}

impl From<NoBeat> for RuntimeError {
    fn from(error: NoBeat) -> Self {
        match error {
            NoBeat::Ledger(error) => Self::Ledger(error),
            NoBeat::Late => Self::Silent,
        }
    }
}

/// Why a poll did not go on. Its text is what people read in a run's reason: no secret, no value.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PollError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error("a secret is missing: {0}")]
    Secret(String),
    #[error("the source gave a record that cannot be sent: {0}")]
    Record(String),
    #[error("the source did not answer within {} s", .0.as_secs())]
    Hangs(Duration),
    #[error("the source says that there is more, but its cursor does not move")]
    Stuck,
    #[error("another process polls this entity")]
    Held,
    #[error("the lease was lost: another process may poll this entity now")]
    LeaseLost,
    #[error("stopped")]
    Stopped,
    #[error("the connector panicked")]
    Panicked,
}

impl PollError {
    pub(crate) fn remedy(&self) -> Remedy {
        match self {
            Self::Source(error) => error.remedy(),
            Self::Bus(error) => error.remedy(),
            Self::Ledger(error) => error.remedy(),
            Self::Stage(error) => error.remedy(),
            Self::Secret(_) => Remedy::Operator("set what the system's `connection` refers to"),
            Self::Hangs(_) | Self::Held => Remedy::Retry,
            Self::LeaseLost => Remedy::Operator("the next run goes on where this one ended"),
            Self::Stopped => Remedy::Operator("it goes on with the next run"),
            Self::Record(_) | Self::Stuck | Self::Panicked => Remedy::Bug,
        }
    }

    /// Whether a new connection may help.
    pub(crate) fn wants_reconnect(&self) -> bool {
        matches!(
            self,
            Self::Hangs(_)
                | Self::Panicked
                | Self::Source(SourceError::Unavailable(_) | SourceError::BadAnswer(_))
        )
    }
}

/// Why a session of a layer ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl LayerError {
    /// Whether the layer is another's.
    pub(crate) fn is_fenced(&self) -> bool {
        match self {
            Self::Bus(_) => false,
            Self::Stage(error) => matches!(error, StageError::Fenced(_)),
            Self::Record(error) => error.is_fenced(),
        }
    }

    /// Whether another process may have what is missing here: room for the key index.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Stage(StageError::Full(_)))
    }

    pub(crate) fn remedy(&self) -> Remedy {
        match self {
            Self::Bus(error) => error.remedy(),
            Self::Stage(error) => error.remedy(),
            Self::Record(error) => error.remedy(),
        }
    }
}
