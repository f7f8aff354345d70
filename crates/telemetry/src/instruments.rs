//! The instruments themselves, each registered as it is made.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
};

use crate::names::*;

/// From a millisecond, which a small batch takes, to five minutes, which a first load takes.
const BUCKETS: [f64; 12] = [0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 20.0, 60.0, 300.0];

const OF_ENTITY: [&str; 2] = [SYSTEM, ENTITY];
const OF_LAYER: [&str; 3] = [SYSTEM, ENTITY, LAYER];

/// One of each.
#[derive(Debug)]
pub(crate) struct Instruments {
    pub(crate) polled: IntCounterVec,
    pub(crate) published: IntCounterVec,
    pub(crate) batches: IntCounterVec,
    pub(crate) records: IntCounterVec,
    pub(crate) late: IntCounterVec,
    pub(crate) rows: IntCounterVec,
    pub(crate) bytes: IntCounterVec,
    pub(crate) lag_records: IntGaugeVec,
    pub(crate) lag_seconds: GaugeVec,
    pub(crate) layer_owned: IntGaugeVec,
    pub(crate) standby_ready: IntGaugeVec,
    pub(crate) poll_seconds: HistogramVec,
    pub(crate) publish_seconds: HistogramVec,
    pub(crate) apply_seconds: HistogramVec,
    pub(crate) commit_seconds: HistogramVec,
    pub(crate) poll_errors: IntCounterVec,
    pub(crate) apply_errors: IntCounterVec,
    pub(crate) maintenance_seconds: HistogramVec,
    pub(crate) maintenance_errors: IntCounterVec,
    pub(crate) compactions: IntCounterVec,
    pub(crate) compactions_dropped: IntCounterVec,
    pub(crate) maintenance_files: IntCounterVec,
    pub(crate) maintenance_rows: IntCounterVec,
    pub(crate) maintenance_bytes: IntCounterVec,
    pub(crate) checkpoints: IntCounterVec,
    pub(crate) entries_swept: IntCounterVec,
    pub(crate) objects_removed: IntCounterVec,
    pub(crate) bus_messages: Gauge,
    pub(crate) bus_bytes: Gauge,
    pub(crate) time_to_loss: GaugeVec,
    pub(crate) quarantine: IntGaugeVec,
    pub(crate) runs: IntCounterVec,
    pub(crate) runs_active: IntGaugeVec,
    pub(crate) last_run_success: IntGaugeVec,
    pub(crate) last_run_time: GaugeVec,
    pub(crate) run_seconds: HistogramVec,
    pub(crate) build: IntGaugeVec,
}

impl Instruments {
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let to = Maker(registry);
        Ok(Self {
            polled: to.counter(CHANGES_POLLED, "Records that connectors gave.", &OF_ENTITY)?,
            published: to.counter(
                CHANGES_PUBLISHED,
                "Records that became durable on the bus.",
                &OF_ENTITY,
            )?,
            batches: to.counter(BATCHES, "Batches that became durable in a layer.", &OF_LAYER)?,
            records: to.counter(
                RECORDS,
                "Records of applied batches, by outcome.",
                &[SYSTEM, ENTITY, LAYER, OUTCOME],
            )?,
            late: to.counter(
                RECORDS_LATE,
                "Records that came after a later one of their key.",
                &OF_LAYER,
            )?,
            rows: to.counter(
                ROWS_WRITTEN,
                "Rows that layers wrote: opened, closed, rewritten.",
                &[SYSTEM, ENTITY, LAYER, KIND],
            )?,
            bytes: to.counter(BYTES_WRITTEN, "Bytes that layers wrote.", &OF_LAYER)?,
            lag_records: to.whole_gauge(
                LAG_RECORDS,
                "Records on the bus that a layer has not applied.",
                &OF_LAYER,
            )?,
            lag_seconds: to.gauge(
                LAG_SECONDS,
                "How long the oldest record that a layer has not applied has waited.",
                &OF_LAYER,
            )?,
            standby_ready: to.whole_gauge(
                STANDBY_READY,
                "Whether this process could go on at once with silver that another one writes.",
                &OF_ENTITY,
            )?,
            layer_owned: to.whole_gauge(
                LAYER_OWNED,
                "Whether the layer is at work in this process (1) or not (0), where several share the \
                 work.",
                &OF_LAYER,
            )?,
            poll_seconds: to.histogram(POLL_SECONDS, "How long a poll took.", &OF_ENTITY)?,
            publish_seconds: to.histogram(
                PUBLISH_SECONDS,
                "How long publishing a page took, to its durability.",
                &[SYSTEM],
            )?,
            apply_seconds: to.histogram(
                APPLY_SECONDS,
                "How long applying a delivery took, to its durability.",
                &OF_LAYER,
            )?,
            commit_seconds: to.histogram(
                COMMIT_SECONDS,
                "How long the bus took to note a layer's progress.",
                &[LAYER],
            )?,
            poll_errors: to.counter(POLL_ERRORS, "Polls that gave no page.", &OF_ENTITY)?,
            apply_errors: to.counter(
                APPLY_ERRORS,
                "Deliveries that a layer could not apply.",
                &OF_LAYER,
            )?,
            maintenance_seconds: to.histogram(
                MAINTENANCE_SECONDS,
                "How long a step of upkeep took that did something.",
                &OF_LAYER,
            )?,
            maintenance_errors: to.counter(
                MAINTENANCE_ERRORS,
                "Steps of upkeep that failed and are tried again.",
                &OF_LAYER,
            )?,
            compactions: to.counter(
                MAINTENANCE_COMPACTIONS,
                "Compactions that were committed.",
                &OF_LAYER,
            )?,
            compactions_dropped: to.counter(
                MAINTENANCE_DROPPED,
                "Compactions that were given up, because the table had changed meanwhile.",
                &OF_LAYER,
            )?,
            maintenance_files: to.counter(
                MAINTENANCE_FILES,
                "Data files that upkeep read and wrote.",
                &[SYSTEM, ENTITY, LAYER, DIRECTION],
            )?,
            maintenance_rows: to.counter(
                MAINTENANCE_ROWS,
                "Rows that upkeep moved to other files.",
                &OF_LAYER,
            )?,
            maintenance_bytes: to.counter(
                MAINTENANCE_BYTES,
                "Bytes that upkeep read and wrote.",
                &[SYSTEM, ENTITY, LAYER, DIRECTION],
            )?,
            checkpoints: to.counter(
                MAINTENANCE_CHECKPOINTS,
                "Checkpoints that were written.",
                &OF_LAYER,
            )?,
            entries_swept: to.counter(
                MAINTENANCE_ENTRIES,
                "Entries of the key index that upkeep looked at.",
                &OF_LAYER,
            )?,
            objects_removed: to.counter(
                MAINTENANCE_REMOVED,
                "Objects that upkeep removed: log entries, checkpoints, files of no version.",
                &OF_LAYER,
            )?,
            bus_messages: to.plain(BUS_MESSAGES, "Messages on the bus.")?,
            bus_bytes: to.plain(BUS_BYTES, "Bytes on the bus.")?,
            time_to_loss: to.gauge(
                BUS_TIME_TO_LOSS,
                "How long it is until records that raw has not landed may be lost, by limits of the \
                 bus that others have set.",
                &OF_ENTITY,
            )?,
            quarantine: to.whole_gauge(
                QUARANTINE,
                "Records in quarantine that wait for a decision.",
                &OF_ENTITY,
            )?,
            runs: to.counter(RUNS, "Runs that have ended, by status.", &[SYSTEM, STATUS])?,
            runs_active: to.whole_gauge(RUNS_ACTIVE, "Runs that are on.", &[SYSTEM])?,
            last_run_success: to.whole_gauge(
                LAST_RUN_SUCCESS,
                "Whether the last run succeeded (1) or not (0).",
                &[SYSTEM],
            )?,
            last_run_time: to.gauge(
                LAST_RUN_TIME,
                "When the last run ended, in seconds since 1970.",
                &[SYSTEM],
            )?,
            run_seconds: to.histogram(RUN_SECONDS, "How long runs took.", &[SYSTEM])?,
            build: to.whole_gauge(BUILD_INFO, "Which release runs.", &[VERSION, REVISION])?,
        })
    }
}

struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn registered<C: Collector + Clone + 'static>(&self, collector: C) -> prometheus::Result<C> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn whole_gauge(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntGaugeVec> {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        self.registered(GaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn plain(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        self.registered(Gauge::new(name, help)?)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        self.registered(HistogramVec::new(opts, labels)?)
    }
}
