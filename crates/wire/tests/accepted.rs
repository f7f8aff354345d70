//! The shapes that are accepted as envelopes and as plain rows, and those that are not.

use alluvium_model::Op;
use alluvium_wire::{Decoder, FOREIGN_SNAPSHOT, Line};

use crate::{change, decoder, refused, row, texts};

fn envelope() -> Decoder {
    decoder("envelope/1")
}

const DEBEZIUM: &str = r#"{"before":null,"after":{"id":1004,"doc":"__debezium_unavailable_value","b":"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==","l":["__debezium_unavailable_value"],"said":"not __debezium_unavailable_value"},"source":{"version":"3.0.0.Final","connector":"postgresql","name":"db1","ts_ms":1732150800123,"snapshot":"false","db":"shop","sequence":"[\"24023119\",\"24023128\"]","schema":"public","table":"customers","txId":555,"lsn":24023128,"xmin":null},"transaction":null,"op":"u","ts_ms":1732150800500}"#;

#[test]
fn debezium_is_read_as_it_is() {
    let decoder = envelope();
    let read = change(&decoder, DEBEZIUM);
    assert_eq!(
        (read.op, read.changed_at_ms, read.snapshot.as_deref()),
        (Op::Update, Some(1_732_150_800_123), None)
    );
    assert_eq!(texts(&read.sequence), ["\"24023119\"", "\"24023128\""]);
    assert_eq!(read.unset, ["doc", "b", "l"]);
    assert!(row(&read).unwrap().starts_with(r#"{"id":1004"#));
}

#[test]
fn debezium_with_its_schema_is_read_like_debezium_without() {
    let decoder = envelope();
    let wrapped = format!(r#"{{"schema":{{"type":"struct","fields":[]}},"payload":{DEBEZIUM}}}"#);
    let (read, bare) = (change(&decoder, &wrapped), change(&decoder, DEBEZIUM));
    assert_eq!(row(&read), row(&bare));
    assert_eq!(read.unset, bare.unset);
    assert_eq!(texts(&read.sequence), texts(&bare.sequence));
}

#[test]
fn a_tombstone_is_no_change() {
    for line in ["null", " null ", r#"{"schema":null,"payload":null}"#] {
        assert!(matches!(envelope().decode(line.as_bytes()), Ok(Line::Tombstone)), "{line}");
    }
}

#[test]
fn a_delete_takes_its_row_from_before() {
    let decoder = envelope();
    let line = r#"{"op":"d","before":{"id":1},"after":null,"source":{}}"#;
    assert_eq!(row(&change(&decoder, line)), Some(r#"{"id":1}"#));
    assert_eq!(row(&change(&decoder, r#"{"op":"d","before":null,"after":null}"#)), None);
    assert_eq!(row(&change(&decoder, r#"{"op":"t","after":{"id":1}}"#)), None);
}

#[test]
fn the_words_of_debezium_for_a_snapshot_are_no_ids() {
    let decoder = envelope();
    for (written, read) in [
        ("true", Some(FOREIGN_SNAPSHOT)),
        ("false", None),
        ("null", None),
        (r#""true""#, Some(FOREIGN_SNAPSHOT)),
        (r#""last""#, Some(FOREIGN_SNAPSHOT)),
        (r#""incremental""#, Some(FOREIGN_SNAPSHOT)),
        (r#""false""#, None),
        (r#""full-3""#, Some("full-3")),
    ] {
        let line = format!(r#"{{"op":"r","after":{{}},"source":{{"snapshot":{written}}}}}"#);
        assert_eq!(change(&decoder, &line).snapshot.as_deref(), read, "{written}");
    }
}

#[test]
fn a_sequence_is_an_array_or_a_string_that_holds_one_or_a_single_value() {
    let decoder = envelope();
    for (written, read) in [
        (r#"[1,"a",2.50]"#, vec!["1", "\"a\"", "2.50"]),
        (r#""[null,\"5\"]""#, vec!["null", "\"5\""]),
        ("7", vec!["7"]),
        (r#""0/16B3748""#, vec!["\"0/16B3748\""]),
        (r#""[broken""#, vec!["\"[broken\""]),
        ("null", vec![]),
    ] {
        let line = format!(r#"{{"op":"c","after":{{}},"source":{{"sequence":{written}}}}}"#);
        assert_eq!(texts(&change(&decoder, &line).sequence), read, "{written}");
    }
}

#[test]
fn the_time_of_an_envelope_without_source_is_that_of_the_change() {
    let decoder = envelope();
    assert_eq!(change(&decoder, r#"{"op":"c","after":{},"ts_ms":5}"#).changed_at_ms, Some(5));
    let ours = r#"{"op":"c","after":{},"source":{"system":"shop"},"ts_ms":5}"#;
    assert_eq!(change(&decoder, ours).changed_at_ms, None);
}

#[test]
fn what_is_no_envelope_is_refused_with_its_kind_of_reason() {
    let decoder = envelope();
    for (line, code) in [
        ("", "unparsable"),
        ("{", "unparsable"),
        (r#"{"op":"c","after":{}} x"#, "unparsable"),
        (r#"{"op":"c","after":{"a":01}}"#, "unparsable"),
        (r#"{"op":"c","after":{"a":NaN}}"#, "unparsable"),
        ("[]", "bad_envelope"),
        (r#"["c",null,{"id":1}]"#, "bad_envelope"),
        ("5", "bad_envelope"),
        (r#"{"id":1}"#, "bad_envelope"),
        (r#"{"op":1,"after":{}}"#, "bad_envelope"),
        (r#"{"op":"c","after":{},"after":{}}"#, "bad_envelope"),
        (r#"{"op":"c","after":{},"source":5}"#, "bad_envelope"),
        (r#"{"op":"c","after":{},"source":{"unset":5}}"#, "bad_envelope"),
        (r#"{"op":"c","after":{},"source":{"old_key":5}}"#, "bad_envelope"),
        (r#"{"op":"c","after":{},"source":{"sequence":{}}}"#, "bad_envelope"),
        (r#"{"op":"m","after":{}}"#, "unknown_op"),
        (r#"{"op":"c","after":null}"#, "bad_row"),
        (r#"{"op":"c","after":[1]}"#, "bad_row"),
        (r#"{"op":"c","after":{},"before":1}"#, "bad_row"),
    ] {
        assert_eq!(refused(&decoder, line), code, "{line}");
    }
}

#[test]
fn a_reason_never_quotes_a_value() {
    for line in [
        r#"{"op":"c","source":"canary","after":{}}"#,
        r#"{"op":"canary","after":{}}"#,
        r#"{"op":"c","after":"canary"}"#,
        r#""canary""#,
        r#"{"op":"c","after":{"a":canary}}"#,
    ] {
        let malformed = envelope().decode(line.as_bytes()).unwrap_err();
        assert!(!malformed.reason.contains("canary"), "{malformed}");
    }
}

#[test]
fn a_plain_line_is_a_row_and_an_upsert() {
    let decoder = decoder("plain");
    let read = change(&decoder, " {\"op\": \"d\", \"id\": 1} ");
    assert_eq!((read.op, row(&read)), (Op::Update, Some("{\"op\": \"d\", \"id\": 1}")));
    assert_eq!(refused(&decoder, "null"), "bad_row");
    assert_eq!(refused(&decoder, "[1]"), "bad_row");
    assert_eq!(refused(&decoder, "a,b"), "unparsable");
}

#[test]
fn a_byte_order_mark_and_a_carriage_return_are_no_part_of_a_line() {
    let line = "\u{feff}{\"op\":\"c\",\"after\":{}}\r";
    assert_eq!(row(&change(&envelope(), line)), Some("{}"));
    assert_eq!(row(&change(&decoder("plain"), line)), Some(r#"{"op":"c","after":{}}"#));
}
