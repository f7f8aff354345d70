//! What the platform measures, on a registry of its own.
//!
//! Label values come from metadata (systems, entities) and from closed lists (layers, outcomes,
//! status), never from data, so that the number of series is bounded by what is configured.

use std::time::Duration;

use prometheus::{Registry, TextEncoder};

use alluvium_model::{Applied, EntityId, Layer, Maintained, Outcome, SystemName};

use crate::instruments::Instruments;

/// The metrics could not be set up or written out: a defect of ours.
#[derive(Debug, thiserror::Error)]
#[error("defect: the metrics cannot be {doing}")]
pub struct MetricsError {
    doing: &'static str,
    #[source]
    source: prometheus::Error,
}

/// Which release runs.
#[derive(Debug, Clone, Copy)]
pub struct BuildInfo<'a> {
    /// The release's version.
    pub version: &'a str,
    /// The commit it was built from, or `unknown`.
    pub revision: &'a str,
}

/// All metrics of a process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    of: Instruments,
}

impl Metrics {
    /// Sets up all metrics, those of the process included.
    pub fn new(build: BuildInfo<'_>) -> Result<Self, MetricsError> {
        let failed = |source| MetricsError { doing: "set up", source };
        let registry = Registry::new();
        let of = Instruments::register(&registry).map_err(failed)?;
        #[cfg(target_os = "linux")]
        {
            use prometheus::process_collector::ProcessCollector;
            registry.register(Box::new(ProcessCollector::for_self())).map_err(failed)?;
        }
        of.build.with_label_values(&[build.version, build.revision]).set(1);
        Ok(Self { registry, of })
    }

    /// All metrics in Prometheus's text format.
    pub fn encode(&self) -> Result<String, MetricsError> {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|source| MetricsError { doing: "written out", source })
    }

    /// Makes the counters of an entity visible before anything happened, so that their first
    /// increase is seen as one.
    pub fn entity_known(&self, entity: &EntityId, layers: &[Layer]) {
        let labels = of_entity(entity);
        for counter in [&self.of.polled, &self.of.published, &self.of.poll_errors] {
            counter.with_label_values(&labels).inc_by(0);
        }
        self.of.quarantine.with_label_values(&labels).add(0);
        for layer in layers {
            let labels = of_layer(entity, *layer);
            self.of.batches.with_label_values(&labels).inc_by(0);
            self.of.apply_errors.with_label_values(&labels).inc_by(0);
            self.of.maintenance_errors.with_label_values(&labels).inc_by(0);
            for outcome in Outcome::ALL {
                let [system, entity, layer] = labels;
                let labels = [system, entity, layer, outcome.as_str()];
                self.of.records.with_label_values(&labels).inc_by(0);
            }
        }
    }

    /// A poll gave a page.
    pub fn polled(&self, entity: &EntityId, records: u64, took: Duration) {
        let labels = of_entity(entity);
        self.of.polled.with_label_values(&labels).inc_by(records);
        self.of.poll_seconds.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// A poll gave none.
    pub fn poll_failed(&self, entity: &EntityId) {
        self.of.poll_errors.with_label_values(&of_entity(entity)).inc();
    }

    /// A page became durable on the bus.
    pub fn published(&self, entity: &EntityId, records: u64, took: Duration) {
        self.of.published.with_label_values(&of_entity(entity)).inc_by(records);
        let system = entity.system.as_str();
        self.of.publish_seconds.with_label_values(&[system]).observe(took.as_secs_f64());
    }

    /// A batch became durable in a layer.
    pub fn batch_applied(&self, entity: &EntityId, applied: &Applied) {
        let labels = of_layer(entity, applied.layer);
        self.of.batches.with_label_values(&labels).inc();
        self.of.late.with_label_values(&labels).inc_by(applied.counts.late);
        self.of.bytes.with_label_values(&labels).inc_by(applied.bytes);
        let [system, entity, layer] = labels;
        for outcome in Outcome::ALL {
            let labels = [system, entity, layer, outcome.as_str()];
            self.of.records.with_label_values(&labels).inc_by(applied.counts.of(outcome));
        }
        let rows = applied.rows;
        for (kind, number) in
            [("opened", rows.opened), ("closed", rows.closed), ("rewritten", rows.rewritten)]
        {
            self.of.rows.with_label_values(&[system, entity, layer, kind]).inc_by(number);
        }
    }

    /// A layer took a delivery; its batches, if any, are told by [`Metrics::batch_applied`].
    pub fn delivery_applied(&self, entity: &EntityId, layer: Layer, took: Duration) {
        let labels = of_layer(entity, layer);
        self.of.apply_seconds.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// A layer could not take a delivery.
    pub fn apply_failed(&self, entity: &EntityId, layer: Layer) {
        self.of.apply_errors.with_label_values(&of_layer(entity, layer)).inc();
    }

    /// A step of upkeep of a layer came to its end.
    pub fn maintained(&self, entity: &EntityId, layer: Layer, done: &Maintained, took: Duration) {
        let labels = of_layer(entity, layer);
        self.of.maintenance_seconds.with_label_values(&labels).observe(took.as_secs_f64());
        for (counter, number) in [
            (&self.of.compactions, done.compactions),
            (&self.of.compactions_dropped, done.dropped),
            (&self.of.maintenance_rows, done.rows_moved),
            (&self.of.checkpoints, done.checkpoints),
            (&self.of.entries_swept, done.entries_swept),
            (&self.of.objects_removed, done.objects_removed),
        ] {
            counter.with_label_values(&labels).inc_by(number);
        }
        let [system, entity, layer] = labels;
        for (counter, read, written) in [
            (&self.of.maintenance_files, done.files_read, done.files_written),
            (&self.of.maintenance_bytes, done.bytes_read, done.bytes_written),
        ] {
            counter.with_label_values(&[system, entity, layer, "read"]).inc_by(read);
            counter.with_label_values(&[system, entity, layer, "written"]).inc_by(written);
        }
    }

    /// A step of upkeep of a layer failed.
    pub fn maintenance_failed(&self, entity: &EntityId, layer: Layer) {
        self.of.maintenance_errors.with_label_values(&of_layer(entity, layer)).inc();
    }

    /// The bus noted a layer's progress.
    pub fn committed(&self, layer: Layer, took: Duration) {
        self.of.commit_seconds.with_label_values(&[layer.as_str()]).observe(took.as_secs_f64());
    }

    /// How far a layer is behind the end of its topic: in records, and in how long the oldest of
    /// them has waited.
    pub fn lag(&self, entity: &EntityId, layer: Layer, records: u64, waited: Duration) {
        let labels = of_layer(entity, layer);
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        self.of.lag_records.with_label_values(&labels).set(records);
        self.of.lag_seconds.with_label_values(&labels).set(waited.as_secs_f64());
    }

    /// Whether a layer is at work in this process, where several share the work.
    pub fn layer_owned(&self, entity: &EntityId, layer: Layer, is_ours: bool) {
        let labels = of_layer(entity, layer);
        self.of.layer_owned.with_label_values(&labels).set(i64::from(is_ours));
    }

    /// The layer is no longer at work in this process: how far it is behind is another's to tell.
    pub fn lag_elsewhere(&self, entity: &EntityId, layer: Layer) {
        let labels = of_layer(entity, layer);
        // There may never have been anything to tell.
        drop(self.of.lag_records.remove_label_values(&labels));
        drop(self.of.lag_seconds.remove_label_values(&labels));
    }

    /// Whether the process could go on at once with an entity's silver, which another one writes;
    /// `None` where it does not stand by for it.
    pub fn standby(&self, entity: &EntityId, is_ready: Option<bool>) {
        let labels = of_entity(entity);
        match is_ready {
            Some(is_ready) => {
                self.of.standby_ready.with_label_values(&labels).set(i64::from(is_ready));
            }
            None => drop(self.of.standby_ready.remove_label_values(&labels)),
        }
    }

    /// How much stands on the bus.
    pub fn bus_depth(&self, messages: u64, bytes: u64) {
        self.of.bus_messages.set(messages as f64);
        self.of.bus_bytes.set(bytes as f64);
    }

    /// How long it is until records of an entity's topic may be lost; `None` if they are not.
    pub fn time_to_loss(&self, entity: &EntityId, left: Option<Duration>) {
        let labels = of_entity(entity);
        match left {
            Some(left) => {
                self.of.time_to_loss.with_label_values(&labels).set(left.as_secs_f64());
            }
            // There is nothing to tell, and mostly there never was.
            None => drop(self.of.time_to_loss.remove_label_values(&labels)),
        }
    }

    /// How many records of an entity wait in quarantine for a decision.
    pub fn quarantine(&self, entity: &EntityId, records: u64) {
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        self.of.quarantine.with_label_values(&of_entity(entity)).set(records);
    }

    /// A run began.
    pub fn run_started(&self, system: &SystemName) {
        self.of.runs_active.with_label_values(&[system.as_str()]).inc();
    }

    /// A run that had begun ended, at `ended_at_us` microseconds since 1970. `status` is one of the
    /// ledger's words.
    pub fn run_finished(
        &self,
        system: &SystemName,
        status: &'static str,
        ended_at_us: i64,
        took: Duration,
    ) {
        let labels = [system.as_str()];
        self.of.runs_active.with_label_values(&labels).dec();
        self.of.runs.with_label_values(&[system.as_str(), status]).inc();
        let success = i64::from(status == "succeeded");
        self.of.last_run_success.with_label_values(&labels).set(success);
        self.of.last_run_time.with_label_values(&labels).set(ended_at_us as f64 / 1e6);
        self.of.run_seconds.with_label_values(&labels).observe(took.as_secs_f64());
    }
}

fn of_entity(entity: &EntityId) -> [&str; 2] {
    [entity.system.as_str(), entity.entity.as_str()]
}

fn of_layer(entity: &EntityId, layer: Layer) -> [&str; 3] {
    [entity.system.as_str(), entity.entity.as_str(), layer.as_str()]
}
