//! Lines of other shapes, read by a mapping.

use alluvium_model::{Headers, Op};
use alluvium_wire::{Decoder, Line, Mapping, headers};

use crate::{change, refused, row, texts};

fn decoder(mapping: &str) -> Decoder {
    let mapping: Mapping = mapping.parse().unwrap();
    let headers =
        Headers::default().with(headers::FORMAT, "map").with(headers::MAP, mapping.to_json());
    Decoder::for_headers(&headers).unwrap()
}

const INSERT: &str = r#"{"op":"insert","seq":5,"after":{"id":1,"city":"Bø"}}"#;
const UPDATE: &str = r#"{"op":"update","seq":7,"after":{"id":1,"city":"Ås"}}"#;
const DELETE: &str =
    r#"{"op":"delete","seq":9,"before":{"id":1,"updated_at":"2026-01-01T00:00:00Z"}}"#;

#[test]
fn the_workload_of_the_benchmark_reads_with_and_without_a_mapped_key() {
    for (mapping, key) in [
        ("op=op,sequence=seq,key=after.id,row=after", vec!["1"]),
        ("op=op,sequence=seq,row=after", vec![]),
    ] {
        let decoder = decoder(mapping);
        for (line, op, seq, expected) in [
            (INSERT, Op::Create, "5", r#"{"id":1,"city":"Bø"}"#),
            (UPDATE, Op::Update, "7", r#"{"id":1,"city":"Ås"}"#),
            (DELETE, Op::Delete, "9", r#"{"id":1,"updated_at":"2026-01-01T00:00:00Z"}"#),
        ] {
            let read = change(&decoder, line);
            assert_eq!((read.op, row(&read)), (op, Some(expected)));
            assert_eq!((texts(&read.sequence), texts(&read.key)), (vec![seq], key.clone()));
            assert_eq!(read.before.is_some(), op == Op::Delete);
        }
    }
}

#[test]
fn without_a_row_the_line_is_the_row_and_before_is_a_column_of_it() {
    let decoder = decoder("op=kind,sequence=at,key=id");
    let line = r#"{"kind":"delete","at":3,"id":"a","before":"noon"}"#;
    let read = change(&decoder, line);
    assert_eq!((read.op, row(&read), read.before.is_none()), (Op::Delete, Some(line), true));
    assert_eq!(texts(&read.key), ["\"a\""]);
}

#[test]
fn a_delete_without_rows_gives_its_key_alone() {
    let decoder = decoder("op=op,key=key.id,row=after");
    let read = change(&decoder, r#"{"op":"d","key":{"id":4},"after":null}"#);
    assert_eq!((row(&read), texts(&read.key)), (None, vec!["4"]));
}

#[test]
fn parts_stand_anywhere_and_keep_their_order() {
    let decoder = decoder("sequence=/meta/ts+$.meta['log'][1],key=row.b+row.a,row=row");
    let read = change(&decoder, r#"{"row":{"a":1,"b":[2]},"meta":{"log":[7,8],"ts":"t"}}"#);
    assert_eq!((texts(&read.sequence), texts(&read.key)), (vec!["\"t\"", "8"], vec!["[2]", "1"]));
    assert_eq!(read.op, Op::Update);
}

#[test]
fn of_members_that_stand_twice_the_last_counts_with_all_below_it() {
    let decoder = decoder("sequence=seq,key=after.id,row=after");
    let read = change(&decoder, r#"{"seq":1,"after":{"id":1},"after": {"id":2} ,"seq":[3]}"#);
    assert_eq!(
        (row(&read), texts(&read.key), texts(&read.sequence)),
        (Some(r#"{"id":2}"#), vec!["2"], vec!["[3]"])
    );
    assert_eq!(refused(&decoder, r#"{"seq":1,"after":{"id":1},"after":{}}"#), "missing_key");
}

#[test]
fn many_members_may_be_mapped() {
    let parts: Vec<String> = (0..20).map(|n| format!("m{n}")).collect();
    let decoder = decoder(&format!("sequence={}", parts.join("+")));
    let members: Vec<String> = (0..20).map(|n| format!("\"m{n}\":{n}")).collect();
    let line = format!("{{{}}}", members.join(","));
    assert_eq!(texts(&change(&decoder, &line).sequence)[19], "19");
}

#[test]
fn a_source_may_have_its_own_words_for_operations() {
    let decoder = decoder("op=o,row=r,ops=1:c+true:d+c:u");
    for (word, op) in
        [("1", Op::Create), ("true", Op::Delete), ("\"c\"", Op::Update), ("\"d\"", Op::Delete)]
    {
        assert_eq!(change(&decoder, &format!(r#"{{"o":{word},"r":{{}}}}"#)).op, op, "{word}");
    }
    assert_eq!(refused(&decoder, r#"{"o":"x","r":{}}"#), "unknown_op");
}

#[test]
fn what_the_mapping_names_must_be_there() {
    let decoder = decoder("op=op,sequence=seq,key=after.id,row=after");
    for (line, code) in [
        (r#"{"op":"insert","seq":5,"after":{"city":"Bø"}}"#, "missing_key"),
        (r#"{"op":"insert","seq":5,"after":{"id":null}}"#, "missing_key"),
        (r#"{"op":"delete","seq":5,"before":{}}"#, "missing_key"),
        (r#"{"op":"update","seq":5,"before":{"id":1},"after":{}}"#, "missing_key"),
        (r#"{"op":"insert","after":{"id":1}}"#, "missing_sequence"),
        (r#"{"op":"insert","seq":null,"after":{"id":1}}"#, "missing_sequence"),
        (r#"{"seq":5,"after":{"id":1}}"#, "unknown_op"),
        (r#"{"op":"insert","seq":5}"#, "bad_row"),
        (r#"{"op":"insert","seq":5,"after":"x"}"#, "bad_row"),
        ("[]", "bad_row"),
        ("5", "bad_row"),
        ("", "unparsable"),
        (r#"{"op":"insert","seq":5,"after":{"id":1}"#, "unparsable"),
        (r#"{"op":"insert","seq":5,"after":{"id":1}}{}"#, "unparsable"),
    ] {
        assert_eq!(refused(&decoder, line), code, "{line}");
    }
    assert!(matches!(decoder.decode(b"null"), Ok(Line::Tombstone)));
}
