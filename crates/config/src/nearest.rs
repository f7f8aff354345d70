//! What somebody probably meant.

/// Below this likeness a suggestion confuses more than it helps.
const LIKENESS: f64 = 0.5;

/// The candidate most like `word`, if any is like it at all.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|candidate| (likeness(word, candidate), candidate));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS).then_some(best.1)
}

/// The candidates in backticks, the most alike first.
pub(crate) fn listed<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    let mut all: Vec<&str> = candidates.into_iter().collect();
    all.sort_by(|a, b| likeness(word, b).total_cmp(&likeness(word, a)));
    let quoted: Vec<String> = all.iter().map(|candidate| format!("`{candidate}`")).collect();
    quoted.join(", ")
}

/// "did you mean …?" and all that is known.
pub(crate) fn suggestion<'a>(
    word: &str,
    what: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    let list = listed(word, candidates.clone());
    if list.is_empty() {
        return None;
    }
    Some(match nearest(word, candidates) {
        Some(candidate) => format!("did you mean `{candidate}`? {what}: {list}"),
        None => format!("{what}: {list}"),
    })
}

fn likeness(a: &str, b: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(&a.to_lowercase(), &b.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_nonsense_is_not() {
        let known = ["listen", "enabled", "level"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("Enabeld", known), Some("enabled"));
        assert_eq!(nearest("zzz", known), None);
    }

    #[test]
    fn the_nearest_stands_first_in_the_list() {
        assert_eq!(listed("sqllite", ["rest", "sqlite"]), "`sqlite`, `rest`");
        assert_eq!(
            suggestion("sqllite", "known types", ["rest", "sqlite"]).unwrap(),
            "did you mean `sqlite`? known types: `sqlite`, `rest`"
        );
    }
}
