//! What is looked at when a process starts: the server's version, and limits that lose something.

use std::sync::Arc;
use std::time::Duration;

use alluvium_bus::{NatsBus, NatsSettings};
use alluvium_model::{BusError, Publisher, SystemClock};
use async_nats::jetstream::stream::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::line::Line;
use super::{STREAM, connect, jetstream, server, settings, stream};
use crate::log::Lines;
use crate::support::topic;

const DAY: Duration = Duration::from_secs(86_400);

/// Why there is no bus with these settings.
async fn refusal(settings: NatsSettings) -> String {
    let refused = NatsBus::connect(settings, Arc::new(SystemClock)).await.err();
    let Some(BusError::Refused(text)) = &refused else { return format!("{refused:?}") };
    format!("refused: {text}")
}

/// The address of something that greets as a server of this version, and answers nothing.
async fn greets_as(version: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let info = serde_json::json!({
        "server_id": "x", "version": version, "proto": 1, "headers": true, "max_payload": 1 << 20,
    });
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            client.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
            let mut said = Vec::new();
            while client.read_buf(&mut said).await.is_ok_and(|count| count > 0) {
                if said.ends_with(b"PING\r\n") {
                    client.write_all(b"PONG\r\n").await.unwrap();
                }
            }
        }
    });
    format!("nats://{address}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_old_is_refused_with_the_version_that_is_needed() {
    let servers = vec![greets_as("2.8.4").await];
    let said = refusal(NatsSettings { servers, ..NatsSettings::default() }).await;
    assert!(said.starts_with("refused: ") && said.contains("2.8.4"), "{said}");
    assert!(said.contains("2.9.0 or newer is needed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_records_that_would_drop_some_is_refused() {
    let server = server!();
    drop(connect(settings(&server)).await);
    let js = jetstream(&server).await;
    let made = js.get_stream("alluvium-state").await.unwrap().cached_info().config.clone();
    for wrong in [
        Config { max_age: DAY, ..made.clone() },
        Config { max_bytes: 1 << 20, ..made.clone() },
        Config { max_messages: 1000, ..made.clone() },
        Config { max_messages_per_subject: 2, ..made.clone() },
    ] {
        js.update_stream(wrong).await.unwrap();
        let said = refusal(settings(&server)).await;
        let why = "refused: stream alluvium-state must keep the last message of each subject";
        assert!(said.starts_with(why), "{said}");
    }
    js.update_stream(made).await.unwrap();
    connect(settings(&server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_begin_together_on_an_empty_server_get_along() {
    let server = server!();
    for number in 0..20 {
        let settings = NatsSettings { prefix: format!("house{number}"), ..settings(&server) };
        let begin = || async {
            let bus = NatsBus::connect(settings.clone(), Arc::new(SystemClock)).await?;
            bus.end(&topic()).await
        };
        let ends = futures::future::join_all((0..8).map(|_| begin())).await;
        let first = ends[0].as_ref().unwrap();
        assert!(ends.iter().all(|end| end.as_ref().is_ok_and(|end| end == first)), "{ends:?}");
    }
}

/// Of two that make a stream at once, one may be told that its subjects are taken before there is a
/// stream to be found, or though there will be none.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_told_that_its_subjects_are_taken_tries_again() {
    let server = server!();
    let js = jetstream(&server).await;
    let subjects = vec!["alluvium.>".to_owned()];
    let of_others = Config { name: "theirs".to_owned(), subjects, ..Config::default() };
    js.create_stream(of_others).await.unwrap();
    let line = Line::to(&server.url()).await;
    let settings = NatsSettings { servers: vec![line.url()], ..settings(&server) };
    // The second attempt is on its way: the first was refused.
    line.stop_before("STREAM.CREATE.alluvium-state", 2);
    let bus = tokio::spawn(NatsBus::connect(settings, Arc::new(SystemClock)));
    line.has_stopped().await;
    js.delete_stream("theirs").await.unwrap();
    line.go_on();
    bus.await.unwrap().unwrap().end(&topic()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_others_that_takes_our_subjects_is_told() {
    let server = server!();
    let js = jetstream(&server).await;
    let subjects = vec!["alluvium.>".to_owned()];
    let of_others = Config { name: "theirs".to_owned(), subjects, ..Config::default() };
    js.create_stream(of_others).await.unwrap();
    let said = refusal(settings(&server)).await;
    assert!(said.starts_with("refused: ") && said.contains("overlap"), "{said}");
}

#[tokio::test]
async fn a_topic_whose_stream_loses_messages_by_its_age_is_warned_of() {
    let server = server!();
    connect(settings(&server)).await.end(&topic()).await.unwrap();
    let (log, _guard) = Lines::of_thread();
    let warned = || log.count(&["WARN", STREAM, "drop messages that raw has not landed", "86400"]);
    connect(settings(&server)).await;
    assert_eq!(warned(), 0);
    let mut config = stream(&server).await.cached_info().config.clone();
    config.max_age = DAY;
    jetstream(&server).await.update_stream(config).await.unwrap();
    connect(settings(&server)).await;
    assert_eq!(warned(), 1);
}
