//! Each step by itself: publish onto the embedded bus, then one layer after the other from it.

use std::path::Path;
use std::sync::Arc;

use alluvium_bus::{BusSettings, EmbeddedBus};
use alluvium_lake::Lake;
use alluvium_lake::index::IndexStore;
use alluvium_layers::{BronzeStage, RawStage, SilverStage};
use alluvium_model::port::Subscribe;
use alluvium_model::{
    Clock, EncodedPage, EntityId, EntitySpec, FetchLimit, Layer, Publisher, Stage, SystemClock,
};
use alluvium_wire::{LineFormat, PublishContext, encode_lines};

use crate::meter::{Meter, Row};
use crate::workload::Lines;

/// What is published as one page.
const PAGE_BYTES: usize = 4 << 20;

/// Measures the first load and the batches after it.
pub(crate) async fn measure(
    folder: &Path,
    first: &Lines,
    batches: &[Lines],
) -> anyhow::Result<Vec<Row>> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let settings = BusSettings { max_unlanded_bytes: u64::MAX >> 1, ..BusSettings::default() };
    let bus = EmbeddedBus::open(&folder.join("bus"), settings, Arc::clone(&clock))?;
    let lake = Lake::local(&folder.join("lake"), clock)?;
    let index = IndexStore::open(&folder.join("index"))?;
    let entity = entity()?;
    let id = entity.id();
    let mut stages: Vec<Box<dyn Stage>> = vec![
        Box::new(RawStage::new(lake.clone(), id.clone(), 64 << 20)),
        Box::new(BronzeStage::new(lake.clone(), &entity, "UTC")?),
        Box::new(SilverStage::new(lake, index.entity(&id)?, &entity, "UTC")?),
    ];
    let mut rows = Vec::new();
    publish_and_land(&bus, &id, first, "first", &mut stages, &mut rows).await?;
    // Medians would hide nothing here, but sums are simpler and counted to the last fsync too.
    let mut sums: Vec<Row> = Vec::new();
    for batch in batches {
        let mut of_batch = Vec::new();
        publish_and_land(&bus, &id, batch, "batches", &mut stages, &mut of_batch).await?;
        if sums.is_empty() {
            sums = of_batch;
            continue;
        }
        for (sum, row) in sums.iter_mut().zip(of_batch) {
            sum.records += row.records;
            sum.wall += row.wall;
            sum.cpu += row.cpu;
        }
    }
    rows.extend(sums);
    bus.close().await;
    Ok(rows)
}

async fn publish_and_land(
    bus: &Arc<EmbeddedBus>,
    id: &EntityId,
    lines: &Lines,
    name: &str,
    stages: &mut [Box<dyn Stage>],
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let meter = Meter::start();
    publish(bus, id, lines).await?;
    rows.push(meter.stop(format!("{name}: publish"), lines.records));
    for stage in stages {
        let meter = Meter::start();
        land(bus, id, stage.as_mut()).await?;
        rows.push(meter.stop(format!("{name}: {}", stage.layer()), lines.records));
    }
    Ok(())
}

async fn publish(bus: &Arc<EmbeddedBus>, id: &EntityId, lines: &Lines) -> anyhow::Result<()> {
    let format = LineFormat::Map("op=op,sequence=seq,row=after".parse()?);
    let mut from = 0;
    let mut ordinal = 0;
    while from < lines.bytes.len() {
        let end = (from + PAGE_BYTES).min(lines.bytes.len());
        let end = lines.bytes[end..].iter().position(|b| *b == b'\n').map_or(end, |n| end + n + 1);
        let context = PublishContext {
            entity: id.clone(),
            run: None,
            traceparent: None,
            delivery: "bench".to_owned(),
            ordinal,
            now: SystemClock.now(),
        };
        let page =
            EncodedPage { messages: encode_lines(lines.bytes.slice(from..end), &format, &context) };
        ordinal += page.records();
        bus.publish(id, page, None).await?;
        from = end;
    }
    Ok(())
}

/// Lands all that is on the topic, to the fsync.
async fn land(bus: &Arc<EmbeddedBus>, id: &EntityId, stage: &mut dyn Stage) -> anyhow::Result<()> {
    let mut subscriber = bus.subscribe(id, stage.layer()).await?;
    if let Some(progress) = stage.progress().await? {
        let (epoch, offset) = (progress.epoch, progress.offset);
        subscriber.seek(&alluvium_model::Position { epoch, offset, index: 0 }).await?;
    }
    let (_, end) = bus.end(id).await?;
    let limit = FetchLimit { bytes: 32 << 20, ..FetchLimit::default() };
    loop {
        let delivery = subscriber.fetch(limit).await?;
        let mut applied = stage.apply(&delivery).await?;
        let done = delivery.span.to >= end;
        if done {
            applied.extend(stage.flush().await?);
        }
        for batch in &applied {
            if stage.layer() != Layer::Raw {
                subscriber.commit(&batch.span).await?;
            }
        }
        if done {
            return Ok(());
        }
    }
}

fn entity() -> anyhow::Result<EntitySpec> {
    let text = include_str!("../entities.json");
    let file: serde_json::Value = serde_json::from_str(text)?;
    Ok(serde_json::from_value(file["entities"][0].clone())?)
}
