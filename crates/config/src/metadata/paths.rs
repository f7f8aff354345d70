//! Whether a column's path reads, and names one place.

use crate::conform::no_json_path;

/// Checks a JSON Pointer, or a JSONPath that names one place. The error says what is wrong.
pub(super) fn check(path: &str) -> Result<(), String> {
    if path.starts_with('$') {
        return json_path(path);
    }
    if !path.starts_with('/') {
        return Err("this is neither a JSON Pointer nor a JSONPath".to_owned());
    }
    let mut rest = path;
    while let Some(at) = rest.find('~') {
        rest = &rest[at + 1..];
        if !rest.starts_with(['0', '1']) {
            return Err("in a JSON Pointer, ~ is written ~0 and / in a name ~1".to_owned());
        }
    }
    Ok(())
}

fn json_path(path: &str) -> Result<(), String> {
    no_json_path(path).map_or(Ok(()), Err)?;
    let bare = without_quoted(path);
    if bare.contains("..") || bare.contains(['*', '?', ',', ':']) {
        return Err("this JSONPath may name more than one place".to_owned());
    }
    Ok(())
}

/// The path without its quoted names, in which any character may stand.
fn without_quoted(path: &str) -> String {
    let mut bare = String::new();
    let mut quote = None;
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match quote {
            Some(_) if character == '\\' => {
                characters.next();
            }
            Some(open) if character == open => quote = None,
            Some(_) => {}
            None if character == '\'' || character == '"' => quote = Some(character),
            None => bare.push(character),
        }
    }
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_names_one_place_is_taken() {
        for path in ["/a", "/a/0/b~1c", "$", "$.a", "$.a[0]['b.*:c']", "$['it\\'s, so']", "$.a[-1]"]
        {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn a_path_that_names_several_places_or_none_is_refused() {
        for path in [
            "", "a", "a.b", "/a~2", "/a~", "$.a[*]", "$..a", "$[0,1]", "$[0:2]", "$[?@.a]", "$.",
            "$.a[",
        ] {
            assert!(check(path).is_err(), "{path}");
        }
    }
}
