//! Workers side by side in one project, each with a data folder and a port of its own.

use alluvium_tests::http::get;
use alluvium_tests::{Running, TestPlatform, until};
use serde_json::Value;

use crate::woken::PATIENCE;

/// Starts a worker that tells on this port how it stands. One of the same name has the same folder.
pub(crate) fn worker(platform: &TestPlatform, name: &str, port: u16, more: &[&str]) -> Running {
    let (data, listen) = (format!("data=data-{name}"), format!("http.listen=127.0.0.1:{port}"));
    let mut args = vec!["run", "--set", &data, "--set", "http.enabled=true", "--set", &listen];
    args.extend(more);
    platform.spawn_beside(&format!("{name}-"), &args)
}

/// What a worker tells of itself and of the others, if it answers.
pub(crate) fn told(port: u16) -> Option<Value> {
    let (status, body) = get(port, "/v1/status")?;
    assert_eq!(status, 200, "{body}");
    Some(serde_json::from_str::<Value>(&body).unwrap()["worker"].take())
}

/// Waits until each of them knows of all of them.
pub(crate) fn await_all(ports: &[u16]) {
    let knows = |port: &u16| {
        let told = told(*port)?;
        (told["workers"].as_array()?.len() == ports.len()).then_some(())
    };
    until("workers that know of each other", PATIENCE, || {
        ports.iter().all(|port| knows(port).is_some()).then_some(())
    });
}

/// Waits until one that was away holds silver of this entity, or is ready to take it over.
pub(crate) fn await_return(port: u16, entity: &str) {
    let silver = format!("silver/{entity}");
    until("who slept to be of use", PATIENCE, || {
        let told = told(port)?;
        let has = told["holds"].as_array()?.iter().any(|lease| *lease == silver);
        let mut stands_by = told["stands_by"].as_array()?.iter();
        let is_ready = stands_by.any(|of| of["entity"] == entity && of["is_ready"] == true);
        (told["is_heard"] == true && (has || is_ready)).then_some(())
    });
}

/// How many rows there are; `None` where there is no table yet.
pub(crate) fn count(platform: &TestPlatform, table: &str) -> Option<u64> {
    let sql = format!("SELECT count(*) AS n FROM {table}");
    let asked = platform.run(&["query", &sql, "-o", "ndjson"]);
    let rows = asked.rows();
    rows.first()?["n"].as_u64()
}

/// Waits until there are so many rows, or more.
pub(crate) fn await_rows(platform: &TestPlatform, table: &str, rows: u64) {
    until(&format!("{rows} rows in {table}"), PATIENCE, || {
        count(platform, table).filter(|found| *found >= rows)
    });
}
