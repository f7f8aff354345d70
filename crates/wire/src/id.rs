//! The id of a change: the same whenever the change comes again, another for any other change.
//!
//! A row's hash alone is never an id: A, B, A are three states. The ids are stored, so they never
//! change between releases.

use alluvium_model::EntityId;
use xxhash_rust::xxh3::xxh3_128;

/// The id of a change whose source gives versions. `key` is the whole key and `version` the whole
/// sequence, each in an encoding that tells different values apart.
pub fn change_id(entity: &EntityId, key: &[u8], version: &[u8]) -> u128 {
    id(b'v', entity, &[key, version])
}

/// The id of a change whose source gives no versions: the delivery or snapshot it came in, its
/// ordinal there, and its row as received.
pub fn delivered_id(entity: &EntityId, delivery: &str, ordinal: u64, row: &[u8]) -> u128 {
    let row = xxh3_128(row).to_le_bytes();
    id(b'd', entity, &[delivery.as_bytes(), &ordinal.to_le_bytes(), &row])
}

/// Hashes the parts, each with its length before it, so that no two lists of parts run together.
fn id(kind: u8, entity: &EntityId, parts: &[&[u8]]) -> u128 {
    let names = [entity.system.as_str().as_bytes(), entity.entity.as_str().as_bytes()];
    let all = || names.iter().chain(parts);
    let mut bytes = Vec::with_capacity(1 + all().map(|part| part.len() + 8).sum::<usize>());
    bytes.push(kind);
    for part in all() {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    xxh3_128(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> EntityId {
        "shop.orders".parse().unwrap()
    }

    #[test]
    fn ids_never_change_between_releases() {
        assert_eq!(
            format!("{:032x}", change_id(&orders(), b"1", b"5")),
            "db3cdd819907dcbb31c76a009658f39d"
        );
        assert_eq!(
            format!("{:032x}", delivered_id(&orders(), "page-7", 3, br#"{"id":1}"#)),
            "7ce5aeadea4b5f823604c05c09632b2a"
        );
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(change_id(&orders(), b"ab", b"c"), change_id(&orders(), b"a", b"bc"));
        let other: EntityId = "shop.order".parse().unwrap();
        assert_ne!(change_id(&orders(), b"1", b"5"), change_id(&other, b"1", b"5"));
    }

    #[test]
    fn the_same_row_at_two_places_of_a_delivery_is_two_changes() {
        let id = |ordinal| delivered_id(&orders(), "page-7", ordinal, b"{}");
        assert_ne!(id(0), id(2));
        assert_eq!(id(2), id(2));
    }
}
