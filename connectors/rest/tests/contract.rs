//! The SDK's contract, against an API with pages, an incremental parameter and an API key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use alluvium_connector::Registry;
use alluvium_connector::contract::{CANARY, Subject};
use alluvium_connector::server::{Asked, Reply, Server};
use alluvium_connector_rest::RestConnection;
use alluvium_model::{EntitySpec, SystemSpec};
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::world;

#[derive(Default)]
struct State {
    rows: BTreeMap<i64, (String, i64)>,
    ticks: i64,
    hide: bool,
    failures: usize,
    reply: Option<Reply>,
}

struct RestSubject {
    server: Server,
    state: Arc<Mutex<State>>,
    load: &'static str,
}

async fn subject(load: &'static str) -> RestSubject {
    let state: Arc<Mutex<State>> = Arc::default();
    let shared = state.clone();
    let server = Server::start(move |asked| answer(&shared.lock().unwrap(), asked)).await;
    RestSubject { server, state, load }
}

/// Two rows a page, with a token that leads on; a hidden page is empty but has a token.
fn answer(state: &State, asked: &Asked) -> Reply {
    if let Some(reply) = &state.reply {
        return reply.clone();
    }
    if asked.param("key") != Some(CANARY) {
        return Reply::status(401);
    }
    let since: i64 = asked.param("since").map_or(0, |text| text.parse().unwrap());
    let at: usize = asked.param("token").map_or(0, |text| text.parse().unwrap());
    let rows = state.rows.iter().filter(|(_, (_, updated))| *updated >= since);
    let rows: Vec<Value> = rows
        .map(|(id, (value, updated))| json!({"id": id, "value": value, "updated": updated}))
        .collect();
    let page: Vec<_> = if state.hide && at == 0 {
        Vec::new()
    } else {
        rows.iter().skip(at).take(2).cloned().collect()
    };
    let next = at + page.len();
    let more = next < rows.len() || (state.hide && at == 0);
    let token = if state.hide && at == 0 { "1".to_owned() } else { next.to_string() };
    let body = json!({"data": page, "next": if more { Some(token) } else { None }});
    Reply::json(serde_json::to_string_pretty(&body).unwrap())
}

#[async_trait]
impl Subject for RestSubject {
    fn registry(&self) -> Registry {
        world::registry()
    }

    fn system(&self) -> SystemSpec {
        world::system(
            self.server.url(),
            json!({
                "auth": {"type": "api_key", "name": "key", "value": CANARY, "in": "query"},
                "headers": {"x-secret": CANARY},
                "timeout_seconds": 1,
            }),
        )
    }

    fn entity(&self) -> EntitySpec {
        let mut source = json!({
            "path": "things", "records": "$.data[*]",
            "pagination": {"type": "cursor", "param": "token", "path": "$.next"},
        });
        if self.load == "delta" {
            source["incremental"] =
                json!({"column": "updated", "param": "since", "format": "unix_ms"});
        }
        world::entity(self.load, source)
    }

    fn connection_debug(&self) -> String {
        format!("{:?}", RestConnection::deserialize(self.system().connection).unwrap())
    }

    async fn put(&mut self, id: i64, value: &str) {
        let mut state = self.state.lock().unwrap();
        state.ticks += 1;
        let updated = state.ticks * 1_000;
        state.rows.insert(id, (value.to_owned(), updated));
    }

    async fn move_quietly(&mut self) -> bool {
        self.state.lock().unwrap().hide = true;
        true
    }

    async fn limit_rate(&mut self) -> bool {
        self.state.lock().unwrap().reply = Some(Reply::status(429).header("retry-after", "60"));
        true
    }

    async fn fail_next(&mut self) -> bool {
        let json = || Reply::json(format!("{{\"data\": [\"{CANARY}\"]}}"));
        let elsewhere = format!("http://127.0.0.1:1/{CANARY}?key={CANARY}");
        let failures = [
            Reply::status(500),
            Reply::hang(),
            json().half(),
            Reply::html(format!("<html>{CANARY}</html>")),
            Reply::json(format!("{{\"{CANARY}\" {CANARY}")),
            Reply::status(401).header("www-authenticate", CANARY),
            Reply::status(404),
            Reply::status(302).header("location", elsewhere),
            Reply::json(format!("{{\"data\": [], \"next\": [\"{CANARY}\"]}}")),
            Reply::json(format!("{{\"error\": \"{CANARY}\"}}")),
        ];
        let mut state = self.state.lock().unwrap();
        let Some(reply) = failures.get(state.failures) else { return false };
        state.failures += 1;
        state.reply = Some(reply.clone());
        true
    }
}

mod full_load {
    async fn make() -> super::RestSubject {
        super::subject("full").await
    }
    alluvium_connector::contract_suite!(make);
}

mod delta_load {
    async fn make() -> super::RestSubject {
        super::subject("delta").await
    }
    alluvium_connector::contract_suite!(make);
}
