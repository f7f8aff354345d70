//! The layers of the lake, opened for whoever runs them.

use alluvium_config::Settings;
use alluvium_lake::Lake;
use alluvium_lake::index::{IndexStore, KeyIndex};
use alluvium_lake::table::CompactionPolicy;
use alluvium_lake::upkeep::UpkeepPolicy;
use alluvium_layers::{BronzeStage, RawReplay, RawStage, SilverStage};
use alluvium_model::{
    BusError, Delivery, EntityId, EntitySpec, Epochs, Layer, Ownership, Position, Quarantined,
    Stage, StageError, Subscriber,
};
use alluvium_runtime::Stages;
use async_trait::async_trait;

/// The layers on this lake, as the settings want them.
pub(super) fn stages(
    settings: &Settings,
    lake: Lake,
    index: IndexStore,
) -> anyhow::Result<LakeStages> {
    let of = &settings.maintenance;
    let upkeep = UpkeepPolicy {
        compaction: CompactionPolicy {
            target_bytes: of.file_bytes.bytes(),
            fan_in: of.files_merged as usize,
            deleted_percent: u64::from(of.deleted_percent),
        },
        checkpoint_every: of.checkpoint_commits,
        keep_log: of.log_retention.duration(),
        keep_garbage: of.garbage_age.duration(),
        ..UpkeepPolicy::default()
    };
    let linger_bytes = usize::try_from(settings.layers.raw_linger_bytes.bytes())?;
    Ok(LakeStages { lake, index, linger_bytes, upkeep })
}

/// The layers of the lake.
pub(super) struct LakeStages {
    lake: Lake,
    index: IndexStore,
    linger_bytes: usize,
    upkeep: UpkeepPolicy,
}

impl LakeStages {
    fn index(&self, entity: &EntitySpec) -> Result<KeyIndex, StageError> {
        let index = self.index.entity(&entity.id());
        index.map_err(|error| {
            let text = alluvium_model::error::chain(&error);
            match error.is_full() {
                true => StageError::Full(text),
                false => StageError::Unavailable(text),
            }
        })
    }
}

#[async_trait]
impl Stages for LakeStages {
    async fn open(
        &self,
        entity: &EntitySpec,
        timezone: &str,
        layer: Layer,
        owner: Option<&Ownership>,
    ) -> Result<Box<dyn Stage>, StageError> {
        let upkeep = self.upkeep.clone();
        let lake = match owner {
            Some(owner) => self.lake.held_by(owner.clone()),
            None => self.lake.clone(),
        };
        Ok(match layer {
            Layer::Raw => Box::new(RawStage::new(lake, entity.id(), self.linger_bytes)),
            Layer::Bronze => {
                Box::new(BronzeStage::new(lake, entity, timezone)?.with_upkeep(upkeep))
            }
            Layer::Silver => {
                let stage = SilverStage::new(lake, self.index(entity)?, entity, timezone)?;
                Box::new(stage.with_upkeep(upkeep))
            }
        })
    }

    fn refuses(&self, entity: &EntitySpec, layer: Layer) -> bool {
        alluvium_layers::refusing(entity) == Some(layer)
    }

    async fn refused(
        &self,
        entity: &EntitySpec,
        timezone: &str,
        delivery: &Delivery,
    ) -> Result<Vec<Quarantined>, StageError> {
        let mut refused = alluvium_layers::refused(entity, timezone, delivery)?;
        if self.refuses(entity, Layer::Silver) {
            refused.extend(alluvium_layers::held(&self.index(entity)?, delivery)?);
        }
        Ok(refused)
    }

    async fn epochs(&self, entity: &EntityId) -> Result<Epochs, StageError> {
        alluvium_layers::epoch::known(&self.lake, entity).await
    }

    async fn replay(
        &self,
        entity: &EntityId,
        after: Option<Position>,
    ) -> Result<Box<dyn Subscriber>, BusError> {
        let mut replay = RawReplay::open(self.lake.clone(), entity.clone()).await?;
        if let Some(after) = after {
            replay.seek(&after).await?;
        }
        Ok(Box::new(replay))
    }
}
