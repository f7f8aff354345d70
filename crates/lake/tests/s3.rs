//! A bucket: what is lost on the way, what a store may not be able to, and what it costs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use alluvium_lake::raw::{self, Landed, RawTotals};
use alluvium_lake::store::Created;
use alluvium_lake::table::Garbage;
use alluvium_lake::{CommitOutcome, Credentials, Lake, LakeError, S3Settings};
use alluvium_model::clock::ManualClock;
use alluvium_model::{Clock, Secret, SystemClock, error};
use alluvium_testkit::{Fault, S3Server};
use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};

use crate::raw::{entity, land, message, span};
use crate::table::{commit, open, rows, scanned, written};

/// What no error may hold.
const CANARIES: [&str; 3] = ["canary-key-id", "canary-secret", "canary-token"];

fn settings(endpoint: &str, prefix: &str) -> S3Settings {
    S3Settings {
        bucket: "lake".to_owned(),
        prefix: prefix.to_owned(),
        endpoint: Some(endpoint.parse().unwrap()),
        region: "us-east-1".to_owned(),
        path_style: true,
        allow_http: true,
        credentials: Credentials::Keys {
            id: Secret::new(CANARIES[0]),
            secret: Secret::new(CANARIES[1]),
            token: Some(Secret::new(CANARIES[2])),
        },
        request_time: Duration::from_secs(60),
        retry_time: Duration::from_secs(20),
    }
}

/// A lake in the bucket `lake`, below the prefix.
pub(crate) fn lake(endpoint: &str, prefix: &str) -> Lake {
    Lake::s3(&settings(endpoint, prefix), Arc::new(SystemClock)).unwrap()
}

/// The same, which gives up soon.
fn hasty(endpoint: &str) -> Lake {
    let settings = S3Settings { retry_time: Duration::from_millis(300), ..settings(endpoint, "h") };
    Lake::s3(&settings, Arc::new(SystemClock)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_hear_that_his_put_was_done_finds_it_out() {
    let Some(server) = S3Server::start() else { return };
    let proxy = server.proxy();
    let (near, far) = (lake(&server.endpoint(), "a"), lake(&proxy.endpoint(), "a"));

    let path = Path::from("x");
    proxy.script("PUT", "/a/x", 1, Fault::LoseAnswer);
    assert_eq!(far.create(&path, "mine".into()).await.unwrap(), Created::Written);
    proxy.script("PUT", "/a/x", 1, Fault::LoseAnswer);
    assert_eq!(far.create(&path, "else".into()).await.unwrap(), Created::AlreadyThere);
    assert_eq!(near.get(&path).await.unwrap().unwrap(), "mine");

    // A log entry: the commit counts, and no second one is made of it.
    let mut table = open(&far).await;
    let staged = table.stage_file(&rows(&[(1, 1)]), Some(true)).await.unwrap();
    proxy.script("PUT", "00000000000000000001.json", 1, Fault::LoseAnswer);
    let outcome = table.commit(commit(vec![staged], &[], 1)).await.unwrap();
    assert!(matches!(outcome, CommitOutcome::Written { version: 1, .. }), "{outcome:?}");
    // Another writer's entry of the next version comes first: that is a conflict.
    let mut other = open(&near).await;
    let staged = other.stage_file(&rows(&[(2, 2)]), Some(true)).await.unwrap();
    written(other.commit(commit(vec![staged], &[], 2)).await.unwrap());
    let staged = table.stage_file(&rows(&[(3, 3)]), Some(true)).await.unwrap();
    proxy.script("PUT", "00000000000000000002.json", 1, Fault::LoseAnswer);
    let late = table.commit(commit(vec![staged], &[], 3)).await.unwrap();
    assert_eq!(late, CommitOutcome::Conflict);
    assert_eq!(scanned(&open(&near).await).await, [(1, 1, true), (2, 2, true)]);

    // A raw object.
    proxy.script("PUT", "/raw/", 1, Fault::LoseAnswer);
    let landed = land(&far, span(0, 1), &[message(1, "{}", true)], RawTotals::default()).await;
    let Ok(Landed::Written(header)) = landed else { panic!("{landed:?}") };
    assert_eq!(raw::last(&near, &entity()).await.unwrap(), Some(header));

    // An upload in parts.
    let large = vec![7u8; 17 << 20];
    proxy.script("POST", "uploadId", 1, Fault::LoseAnswer);
    far.put_unsynced(&Path::from("large"), large.clone().into()).await.unwrap();
    assert!(near.get(&Path::from("large")).await.unwrap().unwrap() == large);
    assert_eq!(proxy.waiting(), 0, "all that was to go wrong did");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_mend_itself_is_tried_again_for_a_while() {
    let Some(mut server) = S3Server::start() else { return };
    let proxy = server.proxy();
    let lake = lake(&proxy.endpoint(), "a");
    let slow = Fault::Answer(503, "<Error><Code>SlowDown</Code></Error>".to_owned());
    proxy.script("PUT", "/a/x", 2, slow.clone());
    assert_eq!(lake.create(&Path::from("x"), "x".into()).await.unwrap(), Created::Written);
    proxy.script("GET", "/a/x", 2, slow);
    assert_eq!(lake.get(&Path::from("x")).await.unwrap().unwrap(), "x");
    // Two who create at once may both be sent away: whoever finds nothing there tries again.
    let both = "<Error><Code>ConditionalRequestConflict</Code></Error>".to_owned();
    proxy.script("PUT", "/a/y", 2, Fault::Answer(409, both));
    assert_eq!(lake.create(&Path::from("y"), "y".into()).await.unwrap(), Created::Written);
    assert_eq!(proxy.waiting(), 0);

    server.server.kill();
    let away = hasty(&server.endpoint());
    for error in [
        away.create(&Path::from("z"), "z".into()).await.unwrap_err(),
        away.list(&Path::from("z")).await.unwrap_err(),
        away.fit_to_write().await.unwrap_err(),
    ] {
        assert!(matches!(error, LakeError::Unavailable { .. }), "{error:?}");
        assert!(error.remedy().is_retry());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_ignores_or_refuses_conditions_is_not_written_to() {
    let Some(server) = S3Server::start() else { return };
    let proxy = server.proxy();
    proxy.script("PUT", "_probe", 2, Fault::DropConditions);
    let error = lake(&proxy.endpoint(), "a").fit_to_write().await.unwrap_err();
    assert!(matches!(error, LakeError::Unfit(_)), "{error:?}");
    assert!(error.to_string().contains("If-None-Match"), "{error}");

    let unknown = "<Error><Code>NotImplemented</Code><Message>no such header</Message></Error>";
    proxy.script("PUT", "_probe", 100, Fault::Answer(501, unknown.to_owned()));
    let error = hasty(&proxy.endpoint()).fit_to_write().await.unwrap_err();
    assert!(matches!(error, LakeError::Unfit(_)), "{error:?}");
    assert!(error.to_string().contains("no such header"), "{error}");

    // A fit one is left as it was found.
    let fit = lake(&server.endpoint(), "b").fit_to_write().await.unwrap();
    assert_eq!(fit.store().list(None).count().await, 0);
    assert_eq!(fit.list(&Path::from("_probe")).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_names_its_reason_and_no_credentials() {
    let Some(server) = S3Server::start() else { return };
    let proxy = server.proxy();
    let told = |code: &str| {
        let [id, secret, token] = CANARIES;
        Fault::Answer(
            403,
            format!(
                "<Error><Code>{code}</Code><Message>not you, {id}, with {token}</Message>\
                 <AWSAccessKeyId>{id}</AWSAccessKeyId><StringToSign>{secret}</StringToSign></Error>"
            ),
        )
    };
    let far = lake(&proxy.endpoint(), "a");
    let path = Path::from("x");
    let mut errors = Vec::new();
    proxy.script("PUT", "", 1, told("SignatureDoesNotMatch"));
    errors.push(("SignatureDoesNotMatch", far.create(&path, "x".into()).await.unwrap_err()));
    proxy.script("PUT", "", 1, told("RequestTimeTooSkewed"));
    errors.push(("RequestTimeTooSkewed", far.put(&path, "x".into()).await.unwrap_err()));
    proxy.script("GET", "", 1, told("AccessDenied"));
    errors.push(("AccessDenied", far.get(&path).await.unwrap_err()));
    proxy.script("GET", "list-type", 1, told("ExpiredToken"));
    errors.push(("ExpiredToken", far.list(&path).await.unwrap_err()));
    proxy.script("POST", "delete", 1, told("AccessDenied"));
    errors.push(("AccessDenied", far.delete(&path).await.unwrap_err()));
    let elsewhere = S3Settings { bucket: "nowhere".into(), ..settings(&server.endpoint(), "a") };
    let nowhere = Lake::s3(&elsewhere, Arc::new(SystemClock)).unwrap();
    errors.push(("NoSuchBucket", nowhere.get(&path).await.unwrap_err()));
    errors.push(("NoSuchBucket", nowhere.list(&path).await.unwrap_err()));
    errors.push(("NoSuchBucket", nowhere.folders(&path).await.unwrap_err()));
    errors.push(("NoSuchBucket", nowhere.fit_to_write().await.unwrap_err()));
    for (code, error) in errors {
        let said = format!("{} {error:?} {}", error::chain(&error), error.detail());
        assert!(said.contains(code), "{said}");
        assert!(matches!(error, LakeError::Denied { .. }), "{said}");
        assert!(CANARIES.iter().all(|canary| !said.contains(canary)), "{said}");
    }
    let shown = format!("{far:?}");
    assert!(CANARIES.iter().all(|canary| !shown.contains(canary)), "{shown}");
}

/// A store that breaks off in the middle of an object, and then says this.
fn broken_off(then: String) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let half = "HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: 10\r\n\r\n12345".to_owned();
    std::thread::spawn(move || {
        for answer in [half, then] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    endpoint
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_in_the_middle_of_an_object_names_no_credentials() {
    let [id, secret, token] = CANARIES;
    let body = format!(
        "<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>{id}</AWSAccessKeyId>\
         <StringToSign>{secret} {token}</StringToSign></Error>"
    );
    let length = body.len();
    let refused = format!("HTTP/1.1 403 X\r\ncontent-length: {length}\r\n\r\n{body}");
    let lake = lake(&broken_off(refused), "a");
    let error = lake.get(&Path::from("x")).await.unwrap_err();
    let said = format!("{} {error:?} {}", error::chain(&error), error.detail());
    assert!(matches!(error, LakeError::Denied { .. }), "{said}");
    assert!(said.contains("SignatureDoesNotMatch"), "{said}");
    assert!(!said.contains("canary"), "{said}");
}

/// Asks for everything that a lake asks for.
async fn ask_for_everything(lake: &Lake) {
    let [folder, one, other] = ["t", "t/1", "t/2"].map(Path::from);
    assert_eq!(lake.create(&one, "x".into()).await.unwrap(), Created::Written);
    lake.put(&other, vec![7u8; 17 << 20].into()).await.unwrap();
    assert_eq!(lake.get(&one).await.unwrap().unwrap(), "x");
    assert_eq!(lake.store().head(&one).await.unwrap().size, 1);
    assert_eq!(lake.store().get_range(&other, 3..5).await.unwrap().len(), 2);
    lake.store().copy(&one, &Path::from("t/3")).await.unwrap();
    assert_eq!(lake.list(&folder).await.unwrap().len(), 3);
    assert!(lake.folders(&folder).await.unwrap().is_empty());
    lake.delete_all(vec![one, other]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_says_who_asks_and_in_which_region() {
    let Some(server) = S3Server::start() else { return };
    let proxy = server.proxy();
    let region = "eu-north-1".to_owned();
    let settings = S3Settings { region, ..settings(&proxy.endpoint(), "a") };
    ask_for_everything(&Lake::s3(&settings, Arc::new(SystemClock)).unwrap()).await;
    let [id, _, token] = CANARIES;
    proxy.assert_signed(id, "eu-north-1", token);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_a_machine_says_that_it_is_asks_and_is_told_to_nobody() {
    let Some(server) = S3Server::start() else { return };
    let (machine, store) = (server.proxy(), server.proxy());
    let [id, secret, token] = CANARIES;
    let keys = format!(
        "{{\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"{secret}\",\"Token\":\"{token}\",\
         \"Expiration\":\"2099-01-01T00:00:00Z\"}}"
    );
    machine.script("PUT", "/latest/api/token", 1, Fault::Answer(200, "session".to_owned()));
    machine.script("GET", "/security-credentials/role", 1, Fault::Answer(200, keys));
    machine.script("GET", "/security-credentials/", 1, Fault::Answer(200, "role".to_owned()));
    let told = ("AWS_METADATA_ENDPOINT".to_owned(), Secret::new(machine.endpoint()));
    let credentials = Credentials::Machine(vec![told]);
    let settings = S3Settings { credentials, ..settings(&store.endpoint(), "a") };
    let lake = Lake::s3(&settings, Arc::new(SystemClock)).unwrap();
    ask_for_everything(&lake).await;
    assert_eq!(machine.waiting(), 0);
    store.assert_signed(id, "us-east-1", token);

    // Nothing masks what only the machine knows.
    let body = format!(
        "<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>{id}</AWSAccessKeyId>\
         <CanonicalRequest>x-amz-security-token:{token}</CanonicalRequest></Error>"
    );
    store.script("GET", "/a/x", 1, Fault::Answer(403, body));
    let error = lake.get(&Path::from("x")).await.unwrap_err();
    let said = format!("{} {error:?} {}", error::chain(&error), error.detail());
    assert!(matches!(error, LakeError::Denied { .. }), "{said}");
    assert!(said.contains("SignatureDoesNotMatch") && !said.contains("canary"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_before_the_store_does_not_find_is_not_a_missing_object() {
    let Some(server) = S3Server::start() else { return };
    let proxy = server.proxy();
    let lake = lake(&proxy.endpoint(), "a");
    let path = Path::from("x");
    lake.put(&path, "x".into()).await.unwrap();
    for page in ["404 page not found", "<html><h1>404 Not Found</h1></html>"] {
        proxy.script("GET", "/a/x", 1, Fault::Answer(404, page.to_owned()));
        let error = lake.get(&path).await.unwrap_err();
        assert!(matches!(error, LakeError::Unavailable { .. }), "{error:?}");
        proxy.script("PUT", "/a/y", 1, Fault::Answer(404, page.to_owned()));
        let created = lake.create(&Path::from("y"), "y".into()).await.unwrap();
        assert_eq!(created, Created::Written, "it is looked at what is there");
        lake.delete(&Path::from("y")).await.unwrap();
    }
    assert_eq!(lake.get(&Path::from("none")).await.unwrap(), None);
    assert_eq!(proxy.waiting(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_with_a_slow_clock_calls_old_is_not_taken_for_garbage() {
    let Some(server) = S3Server::start() else { return };
    // Our clock is two days ahead: to it, all that is written is two days old.
    let clock = ManualClock::at(SystemClock.now());
    clock.advance(Duration::from_secs(2 * 86_400));
    let now = clock.now().as_millisecond();
    let day = 86_400_000;
    let opened = Lake::s3(&settings(&server.endpoint(), "a"), Arc::new(clock)).unwrap();
    let keep = |_: &Path| false;
    let collect = |before_ms| Garbage { before_ms, after: None, limit: 9, beside: "", keep: &keep };
    let mut table = open(&opened.fit_to_write().await.unwrap()).await;
    table.stage_file(&rows(&[(1, 1)]), Some(true)).await.unwrap();
    assert_eq!(table.remove_garbage(&collect(now - day)).await.unwrap().removed, 0);
    assert_eq!(table.remove_garbage(&collect(now + day)).await.unwrap().removed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_several_pages_is_whole_and_in_order() {
    let Some(server) = S3Server::start() else { return };
    let proxy = server.proxy();
    let lake = lake(&proxy.endpoint(), "a");
    let paths: Vec<Path> = (0..1_010).map(|n| Path::from(format!("t/{n:05}"))).collect();
    let puts = paths.iter().map(|path| lake.put(path, PutPayload::from_static(b"x")));
    futures::stream::iter(puts).buffer_unordered(8).for_each(|put| async { put.unwrap() }).await;
    proxy.take_seen();
    let listed = lake.list(&Path::from("t")).await.unwrap();
    assert!(listed.iter().map(|meta| &meta.location).eq(&paths));
    assert_eq!(proxy.take_seen().len(), 2, "a page holds a thousand");
    lake.delete_all(paths).await.unwrap();
    assert_eq!(proxy.take_seen().len(), 2);
    assert_eq!(lake.store().list(None).count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_costs_one_request_for_each_object_that_it_writes() {
    let Some(server) = S3Server::start() else { return };
    let proxy = server.proxy();
    let lake = lake(&proxy.endpoint(), "a");
    let mut table = open(&lake).await;
    let staged = table.stage_file(&rows(&[(1, 1), (2, 2)]), Some(true)).await.unwrap();
    let file = written(table.commit(commit(vec![staged], &[], 1)).await.unwrap())[0];
    proxy.take_seen();
    let current = table.stage_file(&rows(&[(3, 3)]), Some(true)).await.unwrap();
    let closed = table.stage_file(&rows(&[(1, 1)]), Some(false)).await.unwrap();
    written(table.commit(commit(vec![current, closed], &[(file, &[0])], 2)).await.unwrap());
    let seen = proxy.take_seen();
    assert_eq!(seen.len(), 4, "two files, their vectors and the entry: {seen:#?}");
    assert!(seen.iter().all(|request| request.starts_with("PUT ")), "{seen:#?}");
    // Some rows of a file: its end, and what holds them.
    table.read_rows(file, &[1], None).await.unwrap();
    assert!(proxy.take_seen().len() <= 2);
    land(&lake, span(0, 1), &[message(1, "{}", true)], RawTotals::default()).await.unwrap();
    assert_eq!(proxy.take_seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_given_up_leaves_no_parts() {
    let Some(server) = S3Server::start() else { return };
    let proxy = server.proxy();
    let lake = lake(&proxy.endpoint(), "a");
    let mut upload = lake.store().put_multipart(&Path::from("x")).await.unwrap();
    upload.put_part("part".into()).await.unwrap();
    drop(upload);
    let mut aborted = Vec::new();
    for _ in 0..500 {
        aborted.extend(proxy.take_seen());
        if aborted.iter().any(|request| request.starts_with("DELETE ")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("nobody removed the parts: {aborted:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_put_in_parts_that_fails_has_given_them_up_when_it_says_so() {
    let Some(server) = S3Server::start() else { return };
    let proxy = server.proxy();
    let lake = lake(&proxy.endpoint(), "a");
    let denied = Fault::Answer(403, "<Error><Code>AccessDenied</Code></Error>".to_owned());
    proxy.script("PUT", "partNumber=3", 1, denied);
    let put = lake.put_unsynced(&Path::from("x"), vec![7u8; 17 << 20].into()).await;
    assert!(matches!(put, Err(LakeError::Denied { .. })), "{put:?}");
    let seen = proxy.take_seen();
    assert!(seen.iter().any(|request| request.starts_with("DELETE ")), "{seen:#?}");
    // What is gone already needs not be given up.
    let mut upload = lake.store().put_multipart(&Path::from("y")).await.unwrap();
    upload.put_part("part".into()).await.unwrap();
    let gone = "<Error><Code>NoSuchUpload</Code></Error>".to_owned();
    proxy.script("DELETE", "/a/y", 1, Fault::Answer(404, gone));
    upload.abort().await.unwrap();
}
