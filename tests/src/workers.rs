//! Workers side by side in one project, each with a data folder and a port of its own.

use std::time::Duration;

use serde_json::Value;

use crate::http::get;
use crate::wait::until_every;
use crate::{Running, TestPlatform, until};

/// So long it may take until all is landed, in seconds, whoever has to notice first that another one
/// is gone.
pub const PATIENCE: u64 = 120;

/// So long a worker that has much to do is left alone between two questions.
pub const PAUSE: Duration = Duration::from_millis(100);

/// Starts a worker that tells on this port how it stands. One of the same name has the same folder,
/// `data-NAME`.
pub fn worker(platform: &TestPlatform, name: &str, port: u16, more: &[&str]) -> Running {
    let (data, listen) = (format!("data=data-{name}"), format!("http.listen=127.0.0.1:{port}"));
    let mut args = vec!["run", "--set", &data, "--set", "http.enabled=true", "--set", &listen];
    args.extend(more);
    platform.spawn_beside(&format!("{name}-"), &args)
}

/// What a worker tells of itself and of the others, if it answers.
pub fn told(port: u16) -> Option<Value> {
    let (status, body) = get(port, "/v1/status")?;
    assert_eq!(status, 200, "{body}");
    Some(serde_json::from_str::<Value>(&body).unwrap()["worker"].take())
}

/// Whether a worker tells that it holds silver of this entity.
pub fn has_silver(told: &Value, entity: &str) -> bool {
    let silver = format!("silver/{entity}");
    let mut held = told["holds"].as_array().into_iter().flatten();
    held.any(|lease| *lease == silver)
}

/// Whether a worker tells that it is ready to take silver of this entity over.
pub fn is_ready(told: &Value, entity: &str) -> bool {
    let mut stands_by = told["stands_by"].as_array().into_iter().flatten();
    stands_by.any(|of| of["entity"] == entity && of["is_ready"] == true)
}

/// Waits until each of them knows of all of them.
pub fn await_all(ports: &[u16]) {
    let knows = |port: &u16| {
        let told = told(*port)?;
        (told["workers"].as_array()?.len() == ports.len()).then_some(())
    };
    until("workers that know of each other", PATIENCE, || {
        ports.iter().all(|port| knows(port).is_some()).then_some(())
    });
}

/// Waits until one that was away, or has just come, holds silver of this entity or is ready to take
/// it over.
pub fn await_return(port: u16, entity: &str, seconds: u64) {
    until_every(PAUSE, "who was away to be of use", seconds, || {
        let told = told(port)?;
        let is_of_use = has_silver(&told, entity) || is_ready(&told, entity);
        (told["is_heard"] == true && is_of_use).then_some(())
    });
}

/// How many rows there are; `None` where there is no table yet.
pub fn count(platform: &TestPlatform, table: &str) -> Option<u64> {
    let sql = format!("SELECT count(*) AS n FROM {table}");
    let asked = platform.run(&["query", &sql, "-o", "ndjson"]);
    let rows = asked.rows();
    rows.first()?["n"].as_u64()
}

/// Waits until there are so many rows, or more.
pub fn await_rows(platform: &TestPlatform, table: &str, rows: u64) {
    until(&format!("{rows} rows in {table}"), PATIENCE, || {
        count(platform, table).filter(|found| *found >= rows)
    });
}
