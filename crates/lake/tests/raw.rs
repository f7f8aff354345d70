//! Raw objects: landed once, read back byte for byte, damage found.

use std::fs;
use std::io::Read;
use std::sync::Arc;

use alluvium_lake::raw::{self, Landed, RawDraft, RawHeader, RawTotals};
use alluvium_lake::{Lake, LakeError};
use alluvium_model::{EncodedMessage, EntityId, Epoch, Headers, Message, Span};

use crate::lake_in;

const EPOCH: Epoch = Epoch(1_763_000_000_000);

pub(crate) fn entity() -> EntityId {
    "shop.orders".parse().unwrap()
}

pub(crate) fn message(offset: u64, payload: &str, with_frame: bool) -> Arc<Message> {
    message_of(EPOCH, offset, payload, with_frame)
}

fn message_of(epoch: Epoch, offset: u64, payload: &str, with_frame: bool) -> Arc<Message> {
    let records = payload.lines().count() as u32;
    let headers = Headers::default().with("content-type", "application/x-ndjson");
    let frame = with_frame.then(|| zstd::bulk::compress(payload.as_bytes(), 3).unwrap().into());
    let encoded = EncodedMessage { headers, payload: payload.to_owned().into(), records };
    Arc::new(Message::new(epoch, offset, 1_000 + offset as i64, encoded, frame))
}

pub(crate) fn span(after: u64, to: u64) -> Span {
    Span { epoch: EPOCH, after, to }
}

pub(crate) async fn land(
    lake: &Lake,
    span: Span,
    messages: &[Arc<Message>],
    before: RawTotals,
) -> Result<Landed, LakeError> {
    let mut draft = RawDraft::new(entity(), span.epoch, span.after)?;
    messages.iter().try_for_each(|message| draft.push(message))?;
    assert_eq!(draft.span(), span);
    raw::land(lake, draft, before).await
}

fn written(landed: Landed) -> RawHeader {
    match landed {
        Landed::Written(header) => header,
        Landed::AlreadyThere(header) => panic!("{header:?} was there already"),
    }
}

#[tokio::test]
async fn messages_come_back_byte_for_byte_with_and_without_frames_and_line_feeds() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let messages = [
        message(1, "{\"id\":1}\n{\"id\":2}\n", true),
        message(2, "{\"id\":3,\"name\":\"æøå\"}", true),
        message(3, "{\"id\":4}\nnot json at all", false),
        message(4, "[]\n", false),
    ];
    let header = written(land(&lake, span(0, 4), &messages, RawTotals::default()).await.unwrap());
    assert_eq!((header.messages, header.records, header.to), (4, 6, 4));

    let listed = raw::list(&lake, &entity()).await.unwrap();
    assert_eq!(listed.len(), 1);
    let (read_header, read) = raw::read(&lake, &listed[0]).await.unwrap();
    assert_eq!(read_header, header);
    for (landed, read) in messages.iter().zip(&read) {
        assert_eq!(read.payload, landed.payload);
        assert_eq!(read.headers, landed.headers);
        assert_eq!(
            (read.epoch, read.offset, read.published_at_us, read.records),
            (landed.epoch, landed.offset, landed.published_at_us, landed.records)
        );
    }
    assert_eq!(read.len(), messages.len());
}

/// Some buses have offsets of their own between messages.
#[tokio::test]
async fn an_object_may_go_over_offsets_at_which_no_message_stands() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let mut draft = RawDraft::new(entity(), EPOCH, 4).unwrap();
    for offset in [6, 7, 11] {
        draft.push(&message(offset, "{}", false)).unwrap();
    }
    assert!(draft.push(&message(11, "{}", false)).is_err(), "it stands there already");
    let mut draft = RawDraft::new(entity(), EPOCH, 4).unwrap();
    for offset in [6, 7, 11] {
        draft.push(&message(offset, "{}", false)).unwrap();
    }
    draft.reach(12);
    let header = written(raw::land(&lake, draft, RawTotals::default()).await.unwrap());
    assert_eq!((header.after, header.to, header.messages), (4, 12, 3));
    let object = raw::list(&lake, &entity()).await.unwrap().remove(0);
    let (_, read) = raw::read(&lake, &object).await.unwrap();
    assert_eq!(read.iter().map(|m| m.offset).collect::<Vec<_>>(), [6, 7, 11]);
}

#[tokio::test]
async fn an_object_is_clean_ndjson_to_zstdcat() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let messages = [message(1, "{\"id\":1}", true), message(2, "{\"id\":2}\n{\"id\":3}", false)];
    land(&lake, span(0, 2), &messages, RawTotals::default()).await.unwrap();
    let path = raw::list(&lake, &entity()).await.unwrap()[0].path.to_string();
    let file = fs::File::open(folder.path().join(path)).unwrap();
    let mut text = String::new();
    zstd::Decoder::new(file).unwrap().read_to_string(&mut text).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 1 + 2 + 3, "{text}");
    assert_eq!(lines[0]["alluvium"], "raw/1");
    assert_eq!(lines[0]["topic"], "shop.orders");
    assert_eq!(lines[5]["id"], 3);
}

#[tokio::test]
async fn landing_a_span_twice_gives_the_same_header_and_leaves_the_object_alone() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let (first, second) = (message(1, "{\"id\":1}", true), message(2, "{\"id\":2}", true));
    let header = written(
        land(&lake, span(0, 1), &[Arc::clone(&first)], RawTotals::default()).await.unwrap(),
    );
    let again = land(&lake, span(0, 1), &[Arc::clone(&first)], RawTotals::default()).await.unwrap();
    assert_eq!(again, Landed::AlreadyThere(header.clone()));
    // Another writer that cut its span elsewhere is told where the first one's ends.
    let other = land(&lake, span(0, 2), &[first, second], RawTotals::default()).await.unwrap();
    assert_eq!(other, Landed::AlreadyThere(header));
}

#[tokio::test]
async fn the_last_header_tells_how_far_raw_has_got_also_in_a_new_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    assert_eq!(raw::last(&lake, &entity()).await.unwrap(), None);
    let mut totals = RawTotals::default();
    let mut headers: Vec<RawHeader> = Vec::new();
    for offset in 1..=12 {
        let messages = [message(offset, "{}\n{}", offset % 2 == 0)];
        let landed = land(&lake, span(offset - 1, offset), &messages, totals).await.unwrap();
        let header = written(landed);
        header.check_follows(headers.last()).unwrap();
        totals = header.totals;
        headers.push(header);
    }
    assert_eq!(totals.records, 24);
    assert_eq!(raw::last(&lake, &entity()).await.unwrap().as_ref(), headers.last());
    assert!(headers[3].check_follows(headers.get(1)).is_err(), "a hole is found");
    assert!(headers[1].check_follows(None).is_err(), "a missing beginning is found");

    let younger = Epoch(EPOCH.0 * 10);
    let begin = Span { epoch: younger, after: 0, to: 1 };
    let messages = [message_of(younger, 1, "{}", false)];
    let header = written(land(&lake, begin, &messages, RawTotals::default()).await.unwrap());
    header.check_follows(headers.last()).unwrap();
    assert_eq!(raw::last(&lake, &entity()).await.unwrap(), Some(header));
    let listed = raw::list(&lake, &entity()).await.unwrap();
    assert_eq!(listed.len(), 13);
    assert!(listed.is_sorted_by_key(|object| (object.epoch, object.after)));
}

#[tokio::test]
async fn every_damaged_byte_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let payload: String =
        (0..200).map(|n| format!("{{\"id\":{n},\"v\":\"{}\"}}\n", n * 7919)).collect();
    land(&lake, span(0, 1), &[message(1, &payload, true)], RawTotals::default()).await.unwrap();
    let object = raw::list(&lake, &entity()).await.unwrap().remove(0);
    let file = folder.path().join(object.path.to_string());
    let sound = fs::read(&file).unwrap();
    let (header, _) = raw::read(&lake, &object).await.unwrap();
    for at in (0..sound.len()).step_by(7) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        fs::write(&file, &bytes).unwrap();
        match raw::read(&lake, &object).await {
            Err(LakeError::Corrupt(_)) => {}
            // A few bits of a frame mean nothing; then everything must be as it was.
            Ok((read, messages)) => {
                assert_eq!(read, header, "byte {at}");
                assert_eq!(messages[0].payload, payload, "byte {at}");
            }
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    for length in [0, 1, 40, sound.len() / 2, sound.len() - 1] {
        fs::write(&file, &sound[..length]).unwrap();
        assert!(
            matches!(raw::read(&lake, &object).await, Err(LakeError::Corrupt(_))),
            "cut to {length}"
        );
    }
    fs::write(&file, []).unwrap();
    assert!(matches!(raw::last(&lake, &entity()).await, Err(LakeError::Corrupt(_))));
}

#[tokio::test]
async fn messages_that_do_not_follow_each_other_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let lake = lake_in(folder.path());
    let (one, three) = (message(1, "{}", false), message(3, "{}", false));
    for (span, messages) in [
        (span(0, 3), vec![Arc::clone(&three), Arc::clone(&one)]),
        (span(0, 0), vec![]),
        (span(3, 4), vec![three]),
        (Span { epoch: Epoch(1), after: 0, to: 1 }, vec![one]),
    ] {
        let landed = land(&lake, span, &messages, RawTotals::default()).await;
        assert!(matches!(landed, Err(LakeError::Bug(_))), "{span}");
    }
    assert!(raw::list(&lake, &entity()).await.unwrap().is_empty());
}
