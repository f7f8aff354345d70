//! The metrics against their documentation, and against Prometheus's own checker.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use alluvium_model::{
    Applied, BatchId, Checksum, Counts, EntityId, Epoch, Layer, Maintained, Outcome, RowsWritten,
    Span,
};
use alluvium_telemetry::{BuildInfo, Metrics};

const DOC: &str = include_str!("../../../docs/metrics.md");

fn orders() -> EntityId {
    "shop.orders".parse().unwrap()
}

fn batch() -> Applied {
    let span = Span { epoch: Epoch(1), after: 0, to: 3 };
    let mut counts = Counts { records: 3, late: 1, ..Counts::default() };
    counts.add(Outcome::Inserted, 2);
    counts.add(Outcome::Stale, 1);
    Applied {
        layer: Layer::Silver,
        batch: BatchId::of(Layer::Silver, &orders(), &span),
        span,
        counts,
        rows: RowsWritten { opened: 2, closed: 1, rewritten: 0 },
        checksum: Checksum::default(),
        quarantined: Vec::new(),
        version: Some(1),
        bytes: 512,
        published_at_us: 1,
    }
}

/// Metrics on which everything has happened once.
fn metrics() -> Metrics {
    let metrics = Metrics::new(BuildInfo { version: "0.1.0", revision: "abc" }).unwrap();
    let (entity, took) = (orders(), Duration::from_millis(30));
    metrics.entity_known(&entity, &Layer::ALL);
    metrics.run_started(&entity.system);
    metrics.polled(&entity, 3, took);
    metrics.poll_failed(&entity);
    metrics.published(&entity, 3, took);
    metrics.batch_applied(&entity, &batch());
    metrics.delivery_applied(&entity, Layer::Silver, took);
    metrics.apply_failed(&entity, Layer::Raw);
    metrics.maintained(&entity, Layer::Silver, &Maintained::default(), took);
    metrics.maintenance_failed(&entity, Layer::Silver);
    metrics.committed(Layer::Silver, took);
    metrics.lag(&entity, Layer::Silver, 7, Duration::from_millis(1500));
    metrics.layer_owned(&entity, Layer::Silver, true);
    metrics.standby(&entity, Some(true));
    metrics.bus_depth(4, 4096);
    metrics.time_to_loss(&entity, Some(Duration::from_secs(60)));
    metrics.quarantine(&entity, 2);
    metrics.run_finished(&entity.system, "succeeded", 1_800_000_000_500_000, took);
    metrics
}

fn line(text: &str, start: &str) -> String {
    let found = text.lines().find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("no {start} in\n{text}")).to_owned()
}

#[test]
fn what_happened_is_counted_by_entity_layer_and_outcome() {
    let text = metrics().encode().unwrap();
    let of = r#"entity="orders",layer="silver""#;
    for expected in [
        format!(r#"alluvium_records_total{{{of},outcome="inserted",system="shop"}} 2"#),
        format!(r#"alluvium_records_total{{{of},outcome="stale",system="shop"}} 1"#),
        format!(r#"alluvium_records_total{{{of},outcome="deleted",system="shop"}} 0"#),
        format!(r#"alluvium_records_late_total{{{of},system="shop"}} 1"#),
        format!(r#"alluvium_batches_total{{{of},system="shop"}} 1"#),
        format!(r#"alluvium_lag_records{{{of},system="shop"}} 7"#),
        format!(r#"alluvium_lag_seconds{{{of},system="shop"}} 1.5"#),
        format!(r#"alluvium_layer_owned{{{of},system="shop"}} 1"#),
        r#"alluvium_standby_ready{entity="orders",system="shop"} 1"#.to_owned(),
        r#"alluvium_changes_polled_total{entity="orders",system="shop"} 3"#.to_owned(),
        r#"alluvium_last_run_success{system="shop"} 1"#.to_owned(),
        r#"alluvium_last_run_timestamp_seconds{system="shop"} 1800000000.5"#.to_owned(),
        r#"alluvium_runs_active{system="shop"} 0"#.to_owned(),
        "alluvium_bus_bytes 4096".to_owned(),
        r#"alluvium_build_info{revision="abc",version="0.1.0"} 1"#.to_owned(),
    ] {
        assert!(text.lines().any(|line| line == expected), "no {expected} in\n{text}");
    }
}

#[test]
fn a_time_to_loss_shows_only_while_something_may_be_lost() {
    let metrics = metrics();
    let shown = || metrics.encode().unwrap().contains("alluvium_bus_time_to_loss_seconds{");
    assert!(shown());
    metrics.time_to_loss(&orders(), None);
    metrics.time_to_loss(&orders(), None);
    assert!(!shown());
}

#[test]
fn what_is_another_processs_to_tell_is_told_no_more() {
    let metrics = metrics();
    let shown = |name: &str| metrics.encode().unwrap().contains(&format!("{name}{{"));
    let names = ["alluvium_lag_records", "alluvium_lag_seconds", "alluvium_standby_ready"];
    assert!(names.iter().all(|name| shown(name)));
    for _ in 0..2 {
        metrics.lag_elsewhere(&orders(), Layer::Silver);
        metrics.standby(&orders(), None);
    }
    assert!(!names.iter().any(|name| shown(name)));
}

#[test]
fn a_failed_run_shows_as_such() {
    let metrics = metrics();
    let system = orders().system;
    metrics.run_started(&system);
    metrics.run_finished(&system, "failed", 1_800_000_001_000_000, Duration::from_secs(1));
    let text = metrics.encode().unwrap();
    assert!(line(&text, "alluvium_last_run_success").ends_with(" 0"));
    assert!(line(&text, r#"alluvium_runs_total{status="failed""#).ends_with(" 1"));
}

/// Names, kinds and labels as the registry tells them.
fn registered() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let text = metrics().encode().unwrap();
    let mut found: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            found.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((name, labels)) = line.split_once('{') {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s));
            let name = base.filter(|base| found.contains_key(*base)).unwrap_or(name);
            let labels = labels.split_once('}').unwrap().0.split(',');
            let names = labels.map(|l| l.split_once('=').unwrap().0).filter(|l| *l != "le");
            found.get_mut(name).unwrap().1.extend(names.map(str::to_owned));
        }
    }
    found
}

/// Names, kinds and labels as the documentation tells them.
fn documented() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let rows = DOC.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let labels = cells[2].split(',').map(|label| label.trim().trim_matches('`'));
        let labels = labels.filter(|label| !label.is_empty()).map(str::to_owned).collect();
        (cells[0].trim_matches('`').to_owned(), (cells[1].to_owned(), labels))
    })
    .collect()
}

#[test]
fn the_documentation_tells_of_each_metric_and_of_no_other() {
    let (mut registered, mut documented) = (registered(), documented());
    if !cfg!(target_os = "linux") {
        registered.retain(|name, _| !name.starts_with("process_"));
        documented.retain(|name, _| !name.starts_with("process_"));
    }
    assert_eq!(registered, documented);
}

#[test]
fn names_have_the_prefix_and_a_base_unit() {
    for (name, (kind, _)) in registered() {
        assert!(name.starts_with("alluvium_") || name.starts_with("process_"), "{name}");
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        assert_eq!(kind == "histogram", name.ends_with("_duration_seconds"), "{name}");
    }
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            #[allow(clippy::disallowed_methods, reason = "a test may be told to insist")]
            let required = std::env::var("ALLUVIUM_TEST_REQUIRE").is_ok_and(|v| v == "all");
            assert!(!required, "promtool is not installed (Debian package `prometheus`)");
            eprintln!("SKIPPED: promtool is not installed (Debian package `prometheus`)");
            return;
        }
        Err(error) => panic!("promtool: {error}"),
    };
    let text = metrics().encode().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}
