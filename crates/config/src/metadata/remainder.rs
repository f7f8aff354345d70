//! What is left of a value when the parts that do not fit are taken out, so that the rest can be
//! checked at once and not only after they were mended.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use crate::conform::{Problem, Shape};
use crate::locate::token;

/// Parts that are taken out may leave others that do not fit without them.
const ROUNDS: usize = 4;

/// A value without its wrong parts.
pub(super) struct Remainder {
    /// What is left.
    pub(super) value: Value,
    /// Per round, for lists that lost items: which items were kept, by the list's new pointer.
    kept: Vec<HashMap<String, Vec<usize>>>,
}

impl Remainder {
    /// Takes out what `problems` say, and what does not fit without it. Members that the schema
    /// wants and that are not there, all of them texts, get one of no meaning.
    pub(super) fn of(item: &Value, shape: &Shape<'_>, problems: &[Problem]) -> Self {
        let mut remainder = Self { value: item.clone(), kept: Vec::new() };
        let mut problems = problems.to_vec();
        for _ in 0..ROUNDS {
            if problems.is_empty() {
                break;
            }
            remainder.take_out(&problems);
            remainder.fill_in(shape.required());
            problems = shape.problems(&remainder.value);
        }
        remainder
    }

    /// Where the part stood that now stands at `pointer`.
    pub(super) fn original(&self, pointer: &str) -> String {
        self.kept.iter().rev().fold(pointer.to_owned(), |pointer, kept| moved(&pointer, kept))
    }

    fn take_out(&mut self, problems: &[Problem]) {
        let wrong: BTreeSet<&str> = problems.iter().map(|p| p.pointer.as_str()).collect();
        let mut kept = HashMap::new();
        take_out(&mut self.value, "", "", &wrong, &mut kept);
        self.kept.push(kept);
    }

    fn fill_in<'s>(&mut self, required: impl Iterator<Item = &'s str>) {
        let Some(members) = self.value.as_object_mut() else { return };
        for name in required {
            members.entry(name).or_insert_with(|| Value::from("unnamed"));
        }
    }
}

/// Takes out what is wrong below a value that stood at `old` and will stand at `new`.
fn take_out(
    value: &mut Value,
    old: &str,
    new: &str,
    wrong: &BTreeSet<&str>,
    kept: &mut HashMap<String, Vec<usize>>,
) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !wrong.contains(format!("{old}/{}", token(name)).as_str()));
            for (name, member) in members {
                let name = token(name);
                take_out(member, &format!("{old}/{name}"), &format!("{new}/{name}"), wrong, kept);
            }
        }
        Value::Array(items) => {
            let right = |at: &usize| !wrong.contains(format!("{old}/{at}").as_str());
            let left: Vec<usize> = (0..items.len()).filter(right).collect();
            *items = left.iter().map(|at| items[*at].take()).collect();
            for (now, (item, before)) in items.iter_mut().zip(&left).enumerate() {
                take_out(item, &format!("{old}/{before}"), &format!("{new}/{now}"), wrong, kept);
            }
            if left.iter().enumerate().any(|(now, before)| now != *before) {
                kept.insert(new.to_owned(), left);
            }
        }
        _ => {}
    }
}

/// The pointer before a round.
fn moved(pointer: &str, kept: &HashMap<String, Vec<usize>>) -> String {
    let (mut now, mut before) = (String::new(), String::new());
    for part in pointer.split('/').skip(1) {
        let index = kept.get(&now).zip(part.parse::<usize>().ok());
        let index = index.and_then(|(kept, index)| kept.get(index));
        before.push('/');
        match index {
            Some(index) => before.push_str(&index.to_string()),
            None => before.push_str(part),
        }
        now.push('/');
        now.push_str(part);
    }
    before
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object",
            "required": ["name"],
            "additionalProperties": false,
            "properties": {
                "name": {"type": "string"},
                "keys": {"type": "array", "items": {"type": "string"}},
                "list": {"type": "array", "items": {
                    "type": "object", "required": ["type"],
                    "properties": {"type": {"enum": ["a", "b"]}, "n": {"type": "integer"}}
                }}
            }
        })
    }

    fn of(item: &Value) -> Remainder {
        let schema = schema();
        let shape = Shape::of(&schema).unwrap();
        let problems = shape.problems(item);
        Remainder::of(item, &shape, &problems)
    }

    #[test]
    fn what_is_right_stays_and_is_told_where_it_stood() {
        let remainder = of(&json!({
            "nmae": "x",
            "keys": [7, "a", 8, "b"],
            "list": [{"type": "c"}, {"type": "a", "n": "x"}, {}, {"type": "b", "n": 3}]
        }));
        let left = json!({
            "name": "unnamed", "keys": ["a", "b"], "list": [{"type": "a"}, {"type": "b", "n": 3}]
        });
        assert_eq!(remainder.value, left);
        assert_eq!(remainder.original("/keys/1"), "/keys/3");
        assert_eq!(remainder.original("/list/0/type"), "/list/1/type");
        assert_eq!(remainder.original("/list/1/n"), "/list/3/n");
        assert_eq!(remainder.original("/name"), "/name");
    }

    #[test]
    fn what_is_right_as_a_whole_is_left_as_it_is() {
        let item = json!({"name": "x", "keys": ["a"]});
        let remainder = of(&item);
        assert_eq!(remainder.value, item);
        assert_eq!(remainder.original("/keys/0"), "/keys/0");
    }
}
