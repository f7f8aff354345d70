//! The recorded feed, served as the API would have shown it at a moment of the recorded week.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

const RECORDED: &[u8] = include_bytes!("../../../../demo/usgs-all-week.geojson");
const PATH: &str = "/earthquakes/feed/v1.0/summary/all_week.geojson";

/// The feed at work; it ends when this is dropped.
pub(super) struct Feed {
    week: Arc<Week>,
    address: SocketAddr,
    _server: AbortOnDropHandle<()>,
}

impl Feed {
    /// Serves the recorded week on a free port of this machine, from its begin.
    pub(super) async fn serve() -> anyhow::Result<Self> {
        let week = Arc::new(Week::read(RECORDED).context("defect: the recorded feed is damaged")?);
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot serve the feed")?;
        let address = listener.local_addr().context("cannot serve the feed")?;
        let router = Router::new().route(PATH, get(answer)).with_state(Arc::clone(&week));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the demo's feed has ended");
            }
        });
        Ok(Self { week, address, _server: AbortOnDropHandle::new(server) })
    }

    /// Where it is served.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// When the recorded week begins and ends, in milliseconds since 1970.
    pub(super) fn span(&self) -> (i64, i64) {
        (self.week.begin, self.week.end)
    }

    /// Shows the feed of another moment from now on; after the week's end, that of its end.
    pub(super) fn move_to(&self, moment_ms: i64) {
        self.week.moment.store(moment_ms.min(self.week.end), Ordering::Relaxed);
    }
}

/// A recorded week, and the moment of it that is shown.
struct Week {
    metadata: Map<String, Value>,
    events: Vec<Event>,
    begin: i64,
    end: i64,
    moment: AtomicI64,
}

/// An earthquake in both of its states.
struct Event {
    time: i64,
    updated: i64,
    preliminary: String,
    recorded: Box<RawValue>,
}

/// The feed as it stood at a moment.
struct Edition {
    /// When something in it changed last, in milliseconds since 1970. Names the edition: between
    /// this and the moment nothing happened.
    generated: i64,
    body: String,
}

impl Week {
    fn read(json: &[u8]) -> anyhow::Result<Self> {
        #[derive(Deserialize)]
        struct Recording {
            metadata: Map<String, Value>,
            features: Vec<Box<RawValue>>,
        }
        let Recording { metadata, features } = serde_json::from_slice(json)?;
        let events = features.into_iter().map(Event::read).collect::<anyhow::Result<Vec<_>>>()?;
        let begin = events.iter().map(|event| event.time).min().context("it has no events")?;
        let end = events.iter().map(|event| event.updated).max().context("it has no events")?;
        Ok(Self { metadata, events, begin, end, moment: AtomicI64::new(begin) })
    }

    fn at(&self, moment: i64) -> Edition {
        let shown: Vec<_> = self.events.iter().filter_map(|event| event.at(moment)).collect();
        let generated = shown.iter().map(|(since, _)| *since).max().unwrap_or(moment);
        let mut metadata = self.metadata.clone();
        metadata.insert("generated".to_owned(), generated.into());
        metadata.insert("count".to_owned(), shown.len().into());
        let features = shown.iter().map(|(_, json)| *json).collect::<Vec<_>>().join(",\n");
        let metadata = Value::Object(metadata);
        let body = format!(
            r#"{{"type":"FeatureCollection","metadata":{metadata},"features":[{features}]}}"#
        );
        Edition { generated, body }
    }
}

impl Event {
    fn read(recorded: Box<RawValue>) -> anyhow::Result<Self> {
        let mut preliminary: Value = serde_json::from_str(recorded.get())?;
        let properties = preliminary
            .get_mut("properties")
            .and_then(Value::as_object_mut)
            .context("an event has no properties")?;
        let number = |name: &str| properties.get(name).and_then(Value::as_i64);
        let (Some(time), Some(updated)) = (number("time"), number("updated")) else {
            anyhow::bail!("an event has no time");
        };
        properties.insert("updated".to_owned(), json!(time));
        properties.insert("status".to_owned(), json!("automatic"));
        Ok(Self { time, updated, preliminary: preliminary.to_string(), recorded })
    }

    /// What the feed shows of it at `moment`, and since when.
    fn at(&self, moment: i64) -> Option<(i64, &str)> {
        match moment {
            _ if moment >= self.updated.max(self.time) => Some((self.updated, self.recorded.get())),
            _ if moment >= self.time => Some((self.time, &self.preliminary)),
            _ => None,
        }
    }
}

async fn answer(State(week): State<Arc<Week>>, asked: HeaderMap) -> Response {
    let edition = week.at(week.moment.load(Ordering::Relaxed));
    let etag = format!("\"{}\"", edition.generated);
    let date = http_date(edition.generated);
    let known = is_known(&asked, &etag, &date);
    let headers = [(header::ETAG, etag), (header::LAST_MODIFIED, date)];
    if known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(header::CONTENT_TYPE, "application/json")], edition.body).into_response()
}

/// Whether who asks has this edition. A tag, where one is given, counts alone.
fn is_known(asked: &HeaderMap, etag: &str, date: &str) -> bool {
    let text = |name: HeaderName| asked.get(name).and_then(|value| value.to_str().ok());
    match text(header::IF_NONE_MATCH) {
        Some(tags) => tags.split(',').any(|tag| tag.trim() == etag),
        None => text(header::IF_MODIFIED_SINCE) == Some(date),
    }
}

fn http_date(moment_ms: i64) -> String {
    let moment = Timestamp::from_millisecond(moment_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    moment.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses(week: &Week, moment: i64) -> Vec<String> {
        let body: Value = serde_json::from_str(&week.at(moment).body).unwrap();
        let features = body["features"].as_array().unwrap();
        assert_eq!(body["metadata"]["count"], features.len());
        let status = |f: &Value| f["properties"]["status"].as_str().unwrap().to_owned();
        features.iter().map(status).collect()
    }

    #[test]
    fn an_event_is_there_from_its_time_on_and_preliminary_until_it_was_updated() {
        let json = r#"{"metadata":{"count":1},"features":[
            {"id":"a","properties":{"time":10,"updated":20,"status":"reviewed"}}]}"#;
        let week = Week::read(json.as_bytes()).unwrap();
        assert_eq!(statuses(&week, 9), [""; 0]);
        assert_eq!(statuses(&week, 10), ["automatic"]);
        assert_eq!(statuses(&week, 19), ["automatic"]);
        assert_eq!(statuses(&week, 20), ["reviewed"]);
        assert_eq!((week.at(19).generated, week.at(25).generated), (10, 20));
    }

    #[test]
    fn at_its_end_the_week_is_shown_as_it_was_recorded() {
        let week = Week::read(RECORDED).unwrap();
        let recorded: Value = serde_json::from_slice(RECORDED).unwrap();
        let shown: Value = serde_json::from_str(&week.at(week.end).body).unwrap();
        assert_eq!(shown["features"], recorded["features"]);
    }

    #[test]
    fn who_has_an_edition_is_told_so() {
        let date = http_date(1_517_968_154_000);
        assert_eq!(date, "Wed, 07 Feb 2018 01:49:14 GMT");
        let asks = |name: HeaderName, value: &str| {
            let headers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
            is_known(&headers, "\"7\"", &date)
        };
        assert!(asks(header::IF_NONE_MATCH, "\"6\", \"7\""));
        assert!(!asks(header::IF_NONE_MATCH, "\"6\""));
        assert!(asks(header::IF_MODIFIED_SINCE, &date));
        assert!(!is_known(&HeaderMap::new(), "\"7\"", &date));
    }
}
