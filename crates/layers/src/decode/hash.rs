//! Hashes of keys and rows. They stand in tables and index, and never change between releases.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::cell::Cell;

/// Collects cells into the bytes that are hashed. Null cells leave no trace, so that an added
/// column that is null changes no hash.
#[derive(Debug, Default)]
pub(crate) struct Digest {
    bytes: Vec<u8>,
}

/// What stands for a column's name in a digest.
pub(crate) fn name_tag(name: &str) -> u64 {
    xxh3_64(name.as_bytes())
}

impl Digest {
    /// Begins anew.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
    }

    /// Adds a column's value. Columns must come in the order of their tags.
    pub(crate) fn cell(&mut self, tag: u64, cell: &Cell<'_>) {
        if matches!(cell, Cell::Null) {
            return;
        }
        self.bytes.extend_from_slice(&tag.to_le_bytes());
        self.value(cell);
    }

    /// Adds a part of a key: its value alone, its length before it where it has one.
    pub(crate) fn value(&mut self, cell: &Cell<'_>) {
        match cell {
            Cell::Null => self.bytes.push(0),
            Cell::Bool(v) => self.bytes.extend_from_slice(&[1, u8::from(*v)]),
            Cell::Long(v) => self.tagged(2, &v.to_le_bytes()),
            Cell::Double(v) => {
                // NaN equals NaN, and -0.0 equals 0.0.
                let v = if v.is_nan() { f64::NAN } else { *v + 0.0 };
                self.tagged(3, &v.to_bits().to_le_bytes());
            }
            Cell::Decimal(v) => self.tagged(4, &v.to_le_bytes()),
            Cell::Text(v) => self.lengthy(5, v.as_bytes()),
            Cell::Date(v) => self.tagged(6, &v.to_le_bytes()),
            Cell::Timestamp(v) => self.tagged(7, &v.to_le_bytes()),
            Cell::Bytes(v) => self.lengthy(8, v),
            Cell::Json(_, canonical) => self.lengthy(9, canonical.as_bytes()),
        }
    }

    fn tagged(&mut self, tag: u8, value: &[u8]) {
        self.bytes.push(tag);
        self.bytes.extend_from_slice(value);
    }

    fn lengthy(&mut self, tag: u8, value: &[u8]) {
        self.bytes.push(tag);
        self.bytes.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(value);
    }

    /// The hash of what was added.
    pub(crate) fn finish(&self) -> u128 {
        xxh3_128(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(cells: &[Cell<'_>]) -> u128 {
        let mut digest = Digest::default();
        for (tag, cell) in cells.iter().enumerate() {
            digest.cell(tag as u64, cell);
        }
        digest.finish()
    }

    #[test]
    fn equal_values_hash_alike_and_others_do_not() {
        let negative_nan = f64::from_bits(f64::NAN.to_bits() | 1 << 63);
        assert_eq!(hash(&[Cell::Double(-0.0)]), hash(&[Cell::Double(0.0)]));
        assert_eq!(hash(&[Cell::Double(f64::NAN)]), hash(&[Cell::Double(negative_nan)]));
        assert_ne!(hash(&[Cell::Null]), hash(&[Cell::Text("".into())]));
        assert_ne!(hash(&[Cell::Null, Cell::Long(1)]), hash(&[Cell::Long(1), Cell::Null]));
        assert_eq!(hash(&[Cell::Long(1), Cell::Null]), hash(&[Cell::Long(1)]));
    }

    #[test]
    fn parts_of_a_key_are_never_joined() {
        let key = |parts: &[&str]| {
            let mut digest = Digest::default();
            parts.iter().for_each(|part| digest.value(&Cell::Text((*part).into())));
            digest.finish()
        };
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["a"]), key(&["A"]));
        assert_ne!(key(&["a"]), key(&["a "]));
    }

    #[test]
    fn hashes_never_change_between_releases() {
        let cells = [
            Cell::Bool(true),
            Cell::Long(-1),
            Cell::Double(1.5),
            Cell::Decimal(100),
            Cell::Text("æ".into()),
            Cell::Date(1),
            Cell::Timestamp(2),
            Cell::Bytes(vec![3]),
            Cell::Json("{}", "{}".to_owned()),
        ];
        assert_eq!(format!("{:032x}", hash(&cells)), "d5195186d4e711089a5a5cbcea7db8d7");
        assert_eq!(name_tag("id"), 15_178_342_399_716_080_259);
    }
}
