//! Names that somebody who mistyped one may have meant.

use strsim::damerau_levenshtein;

/// More names than this are not read by anybody.
const SHOWN: usize = 12;

/// `known`, what is most like `name` first. What differs in the first parts only is near, too.
pub(crate) fn first(name: &str, known: impl IntoIterator<Item = String>) -> Vec<String> {
    let name = name.to_lowercase();
    let mut known: Vec<_> =
        known.into_iter().map(|k| (distance(&name, &k.to_lowercase()), k)).collect();
    known.sort_by_key(|(distance, _)| *distance);
    known.into_iter().map(|(_, known)| known).collect()
}

/// Parts may be left out in front without cost; leaving out a wrong one counts as one mistake.
fn distance(name: &str, known: &str) -> usize {
    let pairs = ends(name).flat_map(|(dropped, end)| {
        ends(known).map(move |(_, known)| damerau_levenshtein(end, known) + dropped)
    });
    pairs.min().unwrap_or(usize::MAX)
}

/// The name, and what is left of it without its first parts.
fn ends(name: &str) -> impl Iterator<Item = (usize, &str)> {
    let shorter = name.match_indices('.').map(|(at, _)| &name[at + 1..]);
    std::iter::once(name).chain(shorter).enumerate()
}

/// How an error says which tables there are.
pub(crate) fn tables(known: &[String]) -> String {
    match known {
        [] => ": the lake holds none yet".to_owned(),
        known => format!("; there are {}", listed(known)),
    }
}

/// How an error says which columns there are.
pub(crate) fn columns(known: &[String]) -> String {
    match known {
        [] => String::new(),
        known => format!("; there are {}", listed(known)),
    }
}

fn listed(known: &[String]) -> String {
    let mut text =
        known.iter().take(SHOWN).map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
    if let Some(more) = known.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_comes_first_also_where_its_first_parts_were_left_out() {
        let known =
            || ["bronze.shop.items", "silver.shop.items", "silver.shop.orders"].map(str::to_owned);
        assert_eq!(first("ordres", known())[0], "silver.shop.orders");
        assert_eq!(first("silver.shop.item", known())[0], "silver.shop.items");
        assert_eq!(first("gold.shop.orders", known())[0], "silver.shop.orders");
    }

    #[test]
    fn a_long_list_is_cut() {
        let known: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
        assert!(columns(&known).ends_with("`c11` and 8 more"));
    }
}
