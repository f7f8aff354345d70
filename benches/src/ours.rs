//! Our side of a measurement: bus, raw, bronze and silver in one process, upkeep included, as the
//! runtime drives them.

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{BusSettings, EmbeddedBus};
use alluvium_lake::index::IndexStore;
use alluvium_lake::{Lake, Table, path};
use alluvium_layers::{BronzeStage, RawStage, SilverStage};
use alluvium_model::port::Subscribe;
use alluvium_model::{
    Applied, Clock, EntityId, EntitySpec, FencingToken, FetchLimit, Position, Publisher, Stage,
    Subscriber, SystemClock, Upkeep,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::meter::Meter;
use crate::pages::{PAGE_BYTES, Pages};

/// What a layer takes at once. It looks up so often whether it has come to the end.
pub(crate) const LIMIT: FetchLimit =
    FetchLimit { records: 250_000, bytes: 32 << 20, wait: Duration::from_millis(20) };
/// So much that nobody ever waits.
pub(crate) const NO_BOUND: u64 = u64::MAX >> 1;
/// While a layer is behind, upkeep waits for so many batches, as in the runtime.
const WHILE_BEHIND: u32 = 16;

/// As the binary has them by default, but that nobody waits for raw.
pub(crate) fn embedded_settings() -> BusSettings {
    BusSettings {
        retention_bytes: 10_000_000_000,
        retention_age: Duration::from_secs(7 * 86_400),
        max_unlanded_bytes: NO_BOUND,
        max_message_bytes: 16_000_000,
        cache_bytes: 64_000_000,
    }
}

/// The entity that all measurements are of.
pub(crate) fn entity() -> anyhow::Result<EntitySpec> {
    let file: Value = serde_json::from_str(include_str!("../entities.json"))?;
    Ok(serde_json::from_value(file["entities"][0].clone())?)
}

/// Takes a file per line from standard input, and answers each when all of it is durable.
pub(crate) async fn serve(folder: &Path, apart: bool) -> anyhow::Result<()> {
    let mut ours = Ours::open(folder, apart).await?;
    answer(&json!({}))?;
    for line in std::io::stdin().lock().lines() {
        let said = match line?.as_str() {
            "end" => break,
            "rows" => ours.rows().await?,
            "settle" => ours.settle().await?,
            file => ours.take(Path::new(file)).await?,
        };
        answer(&said)?;
    }
    ours.bus.close().await;
    Ok(())
}

fn answer(said: &Value) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{said}")?;
    out.flush()
}

struct Ours {
    bus: Arc<EmbeddedBus>,
    lake: Lake,
    id: EntityId,
    layers: Vec<Landing>,
    apart: bool,
}

impl Ours {
    async fn open(folder: &Path, apart: bool) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // Apart, raw begins only when all has been published.
        let max_unlanded_bytes = if apart { NO_BOUND } else { 2_000_000_000 };
        let settings = BusSettings { max_unlanded_bytes, ..embedded_settings() };
        let bus = EmbeddedBus::open(&folder.join("bus"), settings, Arc::clone(&clock))?;
        let lake = Lake::local(&folder.join("lake"), clock)?;
        let index = IndexStore::open(&folder.join("index"))?;
        let entity = entity()?;
        let id = entity.id();
        let stages: [Box<dyn Stage>; 3] = [
            Box::new(RawStage::new(lake.clone(), id.clone(), 64_000_000)),
            Box::new(BronzeStage::new(lake.clone(), &entity, "UTC")?),
            Box::new(SilverStage::new(lake.clone(), index.entity(&id)?, &entity, "UTC")?),
        ];
        let mut layers = Vec::new();
        for mut stage in stages {
            let mut subscriber = bus.subscribe(&id, stage.layer(), FencingToken(1)).await?;
            let mut at = 0;
            if let Some(progress) = stage.progress().await? {
                let (epoch, offset) = (progress.epoch, progress.offset);
                subscriber.seek(&Position { epoch, offset, index: 0 }).await?;
                at = offset;
            }
            layers.push(Landing { stage, subscriber, at, batches: 0 });
        }
        Ok(Self { bus, lake, id, layers, apart })
    }

    async fn take(&mut self, file: &Path) -> anyhow::Result<Value> {
        match self.apart {
            true => self.one_by_one(file).await,
            false => self.together(file).await,
        }
    }

    /// Publishes, then lands one layer after the other, then upkeep; each is a step.
    async fn one_by_one(&mut self, file: &Path) -> anyhow::Result<Value> {
        let mut steps = Vec::new();
        let mut step = |name: &str, meter: &Meter| {
            let mut step = meter.stop().to_json();
            step["step"] = name.into();
            steps.push(step);
        };
        let meter = Meter::start();
        let end = self.publish(file).await?;
        step("publish", &meter);
        let (_known, end) = watch::channel(Some(end));
        for layer in &mut self.layers {
            let meter = Meter::start();
            layer.land(end.clone()).await?;
            step(layer.stage.layer().as_str(), &meter);
        }
        let meter = Meter::start();
        for layer in &mut self.layers {
            layer.stage.maintain(Upkeep::Step).await?;
        }
        step("upkeep", &meter);
        Ok(json!({"steps": steps}))
    }

    /// Publishes while the layers land what comes, each at its own pace.
    async fn together(&mut self, file: &Path) -> anyhow::Result<Value> {
        let (known, end) = watch::channel(None);
        let land = |mut layer: Landing| {
            let end = end.clone();
            tokio::spawn(async move {
                layer.land(end).await?;
                layer.stage.maintain(Upkeep::Step).await?;
                anyhow::Ok(layer)
            })
        };
        let landing: Vec<_> = self.layers.drain(..).map(land).collect();
        let last = self.publish(file).await?;
        known.send_replace(Some(last));
        for layer in landing {
            self.layers.push(layer.await??);
        }
        Ok(json!({}))
    }

    /// All upkeep there is to do.
    async fn settle(&mut self) -> anyhow::Result<Value> {
        for layer in &mut self.layers {
            layer.stage.maintain(Upkeep::All).await?;
        }
        Ok(json!({}))
    }

    /// How many rows silver has, and how many of them are open.
    async fn rows(&self) -> anyhow::Result<Value> {
        let table = Table::open(&self.lake, &path::silver(&self.id)).await?;
        let table = table.ok_or_else(|| anyhow::anyhow!("there is no silver table"))?;
        let open = table.files().filter(|file| file.current == Some(true));
        let open: u64 = open.map(|file| file.rows - file.deleted.len()).sum();
        Ok(json!({"rows": table.rows(), "open": open}))
    }

    /// Publishes all lines of a file; the offset of the last message.
    async fn publish(&self, file: &Path) -> anyhow::Result<u64> {
        for page in Pages::of(file, &self.id, PAGE_BYTES)? {
            self.bus.publish(&self.id, page?, None).await?;
        }
        Ok(self.bus.end(&self.id).await?.1)
    }
}

/// A layer, and how far it is.
struct Landing {
    stage: Box<dyn Stage>,
    subscriber: Box<dyn Subscriber>,
    at: u64,
    /// Batches since the last upkeep.
    batches: u32,
}

impl Landing {
    /// Lands what comes, until all up to the end is durable.
    async fn land(&mut self, end: watch::Receiver<Option<u64>>) -> anyhow::Result<()> {
        while end.borrow().is_none_or(|end| self.at < end) {
            let delivery = self.subscriber.fetch(LIMIT).await?;
            if delivery.is_empty() {
                continue;
            }
            let applied = self.stage.apply(&delivery).await?;
            self.at = delivery.span.to;
            self.commit(&applied).await?;
            self.batches += 1;
            if self.batches >= WHILE_BEHIND {
                self.batches = 0;
                self.stage.maintain(Upkeep::Step).await?;
            }
        }
        self.batches = 0;
        let applied = self.stage.flush().await?;
        self.commit(&applied).await
    }

    async fn commit(&mut self, applied: &[Applied]) -> anyhow::Result<()> {
        for batch in applied {
            self.subscriber.commit(&batch.span).await?;
        }
        Ok(())
    }
}
