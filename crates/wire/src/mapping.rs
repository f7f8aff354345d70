//! The mapping of lines that are neither envelopes nor plain rows: where the operation, the
//! sequence, the key and the row stand in them.

use std::collections::BTreeMap;
use std::str::FromStr;

use alluvium_model::Op;
use serde::{Deserialize, Serialize};

use crate::error::MappingError;
use crate::path::Path;

/// Where the parts of a change stand in a line.
///
/// Written `op=op,sequence=ts+lsn,key=after.id,row=after,before=old,ops=add:c+del:d` on the command
/// line, and as a JSON object of the same members in the header `alluvium-map`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mapping {
    /// The operation. Unset: every line is an upsert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub op: Option<Path>,
    /// The parts of the sequence, the most significant first. A line that lacks one is malformed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sequence: Vec<Path>,
    /// The parts of the key, in the order of the entity's keys. Unset: the key is taken from the
    /// row. For a delete whose row is missing, a path into the row is looked up in `before`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<Path>,
    /// The row. Unset: the whole line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<Path>,
    /// The row before, which stands in for the row of a delete that has none. Unset: the member
    /// `before`, where `row` is set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Path>,
    /// Operations by the source's own words, beside those that everybody writes (`c`, `insert`,
    /// `update`, `delete`, …).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ops: BTreeMap<String, Op>,
}

impl FromStr for Mapping {
    type Err = MappingError;

    fn from_str(text: &str) -> Result<Self, MappingError> {
        let mut mapping = Mapping::default();
        let mut seen = Vec::new();
        for part in text.split(',') {
            let (member, value) = part
                .split_once('=')
                .ok_or_else(|| MappingError(format!("`{part}` is not of the form member=path")))?;
            let member = member.trim();
            if seen.contains(&member) {
                let hint = "join several paths by `+`";
                return Err(MappingError(format!("`{member}` stands twice: {hint}")));
            }
            seen.push(member);
            mapping.set(member, value.trim())?;
        }
        Ok(mapping)
    }
}

impl Mapping {
    /// The mapping as it stands in the header `alluvium-map`.
    pub fn to_json(&self) -> String {
        // Strings, lists and a map with string keys: nothing that serde_json could refuse.
        serde_json::to_string(self).unwrap_or_default()
    }

    fn set(&mut self, member: &str, value: &str) -> Result<(), MappingError> {
        match member {
            "op" => self.op = Some(path(member, value)?),
            "row" => self.row = Some(path(member, value)?),
            "before" => self.before = Some(path(member, value)?),
            "sequence" => self.sequence = paths(member, value)?,
            "key" => self.key = paths(member, value)?,
            "ops" => self.ops = value.split('+').map(word).collect::<Result<_, _>>()?,
            _ => {
                return Err(MappingError(format!(
                    "`{member}` is not a member of a mapping: those are op, sequence, key, row, \
                     before and ops"
                )));
            }
        }
        Ok(())
    }
}

fn path(member: &str, value: &str) -> Result<Path, MappingError> {
    value.parse().map_err(|error| MappingError(format!("`{member}`: {error}")))
}

fn paths(member: &str, value: &str) -> Result<Vec<Path>, MappingError> {
    value.split('+').map(|one| path(member, one.trim())).collect()
}

fn word(pair: &str) -> Result<(String, Op), MappingError> {
    let parse = || {
        let (word, op) = pair.split_once(':')?;
        Some((word.trim().to_owned(), Op::parse(op.trim())?))
    };
    parse().ok_or_else(|| {
        MappingError(format!(
            "`ops`: `{pair}` is not of the form word:op, with op one of c u d r t"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_reads_from_the_command_line_and_from_json() {
        let text = "op=kind, sequence=ts+/lsn ,key=after.id+$.after.at,row=after,before=old,ops=add:c+del:d";
        let mapping: Mapping = text.parse().unwrap();
        let json = serde_json::to_string(&mapping).unwrap();
        assert_eq!(
            json,
            r#"{"op":"kind","sequence":["ts","/lsn"],"key":["after.id","$.after.at"],"row":"after","before":"old","ops":{"add":"c","del":"d"}}"#
        );
        assert_eq!(serde_json::from_str::<Mapping>(&json).unwrap(), mapping);
    }

    #[test]
    fn errors_name_what_is_wrong_and_show_what_is_right() {
        for (text, wrong) in [
            ("", "`` is not of the form"),
            ("op", "`op` is not of the form"),
            ("opp=op", "`opp` is not a member"),
            ("op=", "`op`: `` is not a path"),
            ("key=a..b", "`key`: `a..b` is not a path"),
            ("key=a,key=b", "`key` stands twice: join"),
            ("ops=x:y", "`ops`: `x:y`"),
        ] {
            let error = text.parse::<Mapping>().unwrap_err().to_string();
            assert!(error.contains(wrong), "{text}: {error}");
            assert!(
                error.contains("like `op=op,sequence=ts+lsn,key=after.id,row=after`"),
                "{error}"
            );
        }
    }
}
