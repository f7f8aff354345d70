//! What is planted, the comparison finds: one record that is missing, repeated, altered or
//! displaced, and one version that is wrong.

use serde_json::{Value, json};

use super::compare::{Raw, bronze, polled, published, silver, whole};
use super::findings::Findings;
use super::model::{Seq, Version};
use super::shapes::{SHAPES, Shape, Way};

fn shape(way: Way) -> &'static Shape {
    SHAPES.iter().find(|shape| shape.way == way).unwrap()
}

/// Raw as these texts make it, one after the other.
fn raw(texts: &[String]) -> Vec<Raw> {
    let read = |(at, text): (u64, &String)| Raw::new((1, at, 0), text.contains("\"rows\""), text);
    (0..).zip(texts).map(read).collect()
}

/// How many were lost, repeated and altered.
fn counts(look: impl FnOnce(&mut Findings)) -> (u64, u64, u64) {
    let mut found = Findings::with(None);
    look(&mut found);
    assert_eq!(found.wrong, 0, "{found:?}");
    (found.lost, found.repeated, found.altered)
}

fn without(texts: &[String], at: usize) -> Vec<String> {
    let mut texts = texts.to_vec();
    texts.remove(at);
    texts
}

/// The same with the text at `from` once more at the end.
fn again(texts: &[String], from: usize) -> Vec<String> {
    [texts, &texts[from..=from]].concat()
}

fn with(texts: &[String], at: usize, text: &str) -> Vec<String> {
    let mut texts = texts.to_vec();
    text.clone_into(&mut texts[at]);
    texts
}

fn swapped(texts: &[String], one: usize, other: usize) -> Vec<String> {
    let mut texts = texts.to_vec();
    texts.swap(one, other);
    texts
}

fn lines() -> Vec<String> {
    (0..5).map(|n| json!({"n": n, "op": "insert", "seq": n + 1}).to_string()).collect()
}

#[test]
fn of_published_lines_each_fault_is_found() {
    let told = lines();
    let look = |there: Vec<String>| {
        counts(|found| published(found, shape(Way::Published), &raw(&there), &told))
    };
    assert_eq!(look(told.clone()), (0, 0, 0));
    assert_eq!(look(without(&told, 2)), (1, 0, 0));
    assert_eq!(look(without(&told, 4)), (1, 0, 0), "the last one");
    assert_eq!(look(again(&told, 1)), (0, 1, 0));
    let other = r#"{"n":2,"op":"insert","seq":9}"#;
    assert_eq!(look(with(&told, 2, other)), (0, 0, 1));
    let strange = r#"{"n":9,"op":"insert","seq":9}"#;
    assert_eq!(look([&told[..], &[strange.to_owned()]].concat()), (0, 0, 1), "nobody told it");
    assert_eq!(look([&told[..], &[other.to_owned()]].concat()), (0, 1, 1), "again, and altered");
    assert_eq!(look(swapped(&told, 1, 2)), (0, 0, 1), "out of order");
}

#[test]
fn of_polled_records_each_fault_is_found() {
    let shown: Vec<Value> = (1..6).map(|feed| json!({"feed": feed, "id": feed * 7})).collect();
    let told: Vec<String> = shown.iter().map(|row| json!({"after": row}).to_string()).collect();
    let look = |there: Vec<String>| {
        counts(|found| polled(found, shape(Way::Polled), &raw(&there), &shown))
    };
    assert_eq!(look(told.clone()), (0, 0, 0));
    assert_eq!(look(without(&told, 0)), (1, 0, 0), "the first one");
    assert_eq!(look(again(&told, 4)), (0, 1, 0));
    assert_eq!(look(with(&told, 3, r#"{"after":{"feed":4,"id":0}}"#)), (0, 0, 1));
    assert_eq!(look(swapped(&told, 0, 4)), (0, 0, 2), "where it goes back");
    let zero = r#"{"after":{"feed":0,"id":0}}"#;
    assert_eq!(look([&told[..], &[zero.to_owned()]].concat()), (0, 0, 1), "there is none before");
}

/// A snapshot of the rows with these numbers and cities, with its end.
fn snapshot(name: &str, rows: &[(u64, &str)]) -> Vec<String> {
    let row = |(id, city): &(u64, &str)| {
        json!({"source": {"snapshot": name}, "after": {"id": id, "city": city}}).to_string()
    };
    let end = json!({"snapshot": name, "rows": rows.len()}).to_string();
    rows.iter().map(row).chain([end]).collect()
}

#[test]
fn of_snapshots_each_fault_is_found() {
    let rows = [(1, "Oslo"), (2, "Bergen"), (3, "Oslo")];
    let table: Vec<Value> = rows.iter().map(|(id, city)| json!({"id": id, "city": city})).collect();
    let told = [snapshot("a", &rows[..2]), snapshot("b", &rows)].concat();
    let look =
        |there: Vec<String>| counts(|found| whole(found, shape(Way::Whole), &raw(&there), &table));
    assert_eq!(look(told.clone()), (0, 0, 0));
    assert_eq!(look(without(&told, 0)), (1, 0, 0));
    assert_eq!(look(without(&told, 3)), (1, 0, 1), "and the last one is not the table");
    assert_eq!(look(again(&told, 1)), (0, 1, 0));
    assert_eq!(look(again(&told, 6)), (0, 1, 0), "an end");
    assert_eq!(look(with(&told, 3, &snapshot("b", &[(1, "Bergen")])[0])), (0, 0, 1));
    assert_eq!(look(without(&told, 6)), (0, 0, 1), "without its end it is not the last one");
    let more = snapshot("a", &[(9, "Oslo")]).swap_remove(0);
    let early = [&[more.clone()][..], &told[..]].concat();
    assert_eq!(look(early), (0, 0, 1), "more than its end tells");
    let late = [&told[..], &[more]].concat();
    assert_eq!(look(late), (0, 0, 2), "and after it");
    assert_eq!(look(swapped(&told, 5, 6)), (0, 0, 1), "a row behind its end");
}

#[test]
fn of_documents_each_fault_is_found() {
    let told = lines();
    let rows: Vec<Value> = (0..)
        .zip(&told)
        .map(|(at, text): (u64, _)| json!({"_position": format!("1/{at}/0"), "document": text}))
        .collect();
    let look =
        |rows: &[Value]| counts(|found| bronze(found, shape(Way::Published), &raw(&told), rows));
    assert_eq!(look(&rows), (0, 0, 0));
    assert_eq!(look(&rows[1..]), (1, 0, 0));
    assert_eq!(look(&[&rows[..], &rows[2..3]].concat()), (0, 1, 0));
    let mut altered = rows.clone();
    altered[2]["document"] = json!("{}");
    assert_eq!(look(&altered), (0, 0, 1));
    let mut displaced = rows.clone();
    displaced[2]["_position"] = json!("1/2/1");
    assert_eq!(look(&displaced), (1, 1, 0), "missing where it should be, too many where it is");
}

#[test]
fn of_versions_each_fault_is_found() {
    let version = |key: u64| Version {
        key: format!("[{key}]"),
        from: Seq::Number(key),
        to: Some(Seq::Number(key + 1)),
        op: "u".to_owned(),
        position: (1, key, 0),
        values: format!("[{key},\"Oslo\"]"),
    };
    let model: Vec<Version> = (1..6).map(version).collect();
    let look = |change: &dyn Fn(&mut Vec<Version>)| {
        let (mut rows, mut found) = (model.clone(), Findings::with(None));
        change(&mut rows);
        rows.sort();
        silver(&mut found, shape(Way::Published), &model, &rows);
        assert_eq!(found.lost + found.repeated + found.altered, 0, "{found:?}");
        found.wrong
    };
    assert_eq!(look(&|_| {}), 0);
    assert_eq!(look(&|rows| drop(rows.remove(0))), 1);
    assert_eq!(look(&|rows| drop(rows.pop())), 1);
    assert_eq!(look(&|rows| rows.push(rows[2].clone())), 1, "a version twice");
    // Each wrong one is one that only silver has, and one that only the model has.
    assert_eq!(look(&|rows| rows[2].to = None), 2);
    assert_eq!(look(&|rows| rows[2].from = Seq::Number(0)), 2);
    assert_eq!(look(&|rows| rows[2].op = "c".to_owned()), 2);
    assert_eq!(look(&|rows| rows[2].position = (1, 9, 0)), 2);
    assert_eq!(look(&|rows| rows[2].values = "[3,\"Bergen\"]".to_owned()), 2);
    assert_eq!(look(&|rows| rows[2].key = "[9]".to_owned()), 2);
}
