//! Masks what may be a secret in settings that have no type of their own.
//!
//! A connector's connection is opaque here, so names decide: a member called `password` is masked
//! unless it is a reference, and so are a URL's password and its telling parameters.

use serde_json::Value;

const MASK: &str = "***";

/// Words that make a name suspicious, wherever they stand in it.
const WORDS: [&str; 24] = [
    "password",
    "passwd",
    "pwd",
    "pass",
    "passphrase",
    "secret",
    "secrets",
    "token",
    "tokens",
    "key",
    "apikey",
    "apitoken",
    "credential",
    "credentials",
    "authorization",
    "bearer",
    "cookie",
    "signature",
    "sig",
    "dsn",
    "pin",
    "accesskey",
    "privatekey",
    "passcode",
];

/// Masks in place.
pub(crate) fn redact(value: &mut Value) {
    walk(value, false);
}

fn walk(value: &mut Value, suspicious: bool) {
    match value {
        Value::String(text) => *text = shown(text, suspicious),
        Value::Number(_) if suspicious => *value = Value::from(MASK),
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, suspicious)),
        Value::Object(members) => {
            // `{"name": "X-Api-Key", "value": "…"}` and `{"type": "bearer", "value": "…"}`
            let named = ["name", "type", "kind", "header"].iter().any(|label| {
                members.get(*label).and_then(Value::as_str).is_some_and(is_suspicious)
            });
            for (name, member) in members {
                let here = is_suspicious(name) || (named && name == "value");
                walk(member, suspicious || here);
            }
        }
        _ => {}
    }
}

fn shown(text: &str, suspicious: bool) -> String {
    if is_reference(text) {
        text.to_owned()
    } else if suspicious {
        MASK.to_owned()
    } else if text.contains("://") || text.contains('?') {
        mask_url(text)
    } else {
        text.to_owned()
    }
}

fn is_reference(text: &str) -> bool {
    text.starts_with("${")
        && text.ends_with('}')
        && !text.contains(char::is_whitespace)
        && text.matches('{').count() == 1
}

fn is_suspicious(name: &str) -> bool {
    let mut words = String::with_capacity(name.len() + 4);
    let mut lower_before = false;
    for c in name.chars() {
        if c.is_uppercase() && lower_before {
            words.push(' ');
        }
        lower_before = c.is_lowercase() || c.is_ascii_digit();
        if c.is_alphanumeric() {
            words.extend(c.to_lowercase());
        } else {
            words.push(' ');
        }
    }
    words.split(' ').any(|word| WORDS.contains(&word))
}

/// `http://user:***@host/path?api_key=***`
fn mask_url(text: &str) -> String {
    let (head, query) = text.split_once('?').map_or((text, None), |(h, q)| (h, Some(q)));
    let mut out = mask_userinfo(head);
    if let Some(query) = query {
        out.push('?');
        let parts: Vec<String> = query.split('&').map(mask_parameter).collect();
        out.push_str(&parts.join("&"));
    }
    out
}

fn mask_userinfo(head: &str) -> String {
    let Some((scheme, rest)) = head.split_once("://") else { return head.to_owned() };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let Some((userinfo, host)) = authority.rsplit_once('@') else { return head.to_owned() };
    let shown = match userinfo.split_once(':') {
        Some((user, password)) if !is_reference(password) => format!("{user}:{MASK}"),
        _ => userinfo.to_owned(),
    };
    format!("{scheme}://{shown}@{host}{path}")
}

fn mask_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, value)) if is_suspicious(name) && !is_reference(value) => {
            format!("{name}={MASK}")
        }
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const CANARY: &str = "canary-7f3a";

    fn redacted(mut value: Value) -> Value {
        redact(&mut value);
        value
    }

    #[test]
    fn no_secret_survives_under_any_of_its_names() {
        for name in [
            "password",
            "Password",
            "db_password",
            "apiKey",
            "api_key",
            "X-Api-Key",
            "token",
            "accessToken",
            "client_secret",
            "Authorization",
            "privateKey",
            "key",
            "credentials",
        ] {
            let text = redacted(json!({ "auth": { name: CANARY } })).to_string();
            assert!(!text.contains(CANARY), "{name}: {text}");
            let text = redacted(json!({ name: { "deep": [CANARY, { "x": CANARY }] } })).to_string();
            assert!(!text.contains(CANARY), "{name}: {text}");
        }
        for value in [
            json!({ "headers": [{ "name": "X-Api-Key", "value": CANARY }] }),
            json!({ "auth": { "type": "bearer", "value": CANARY } }),
            json!({ "url": format!("https://me:{CANARY}@example.org/x") }),
            json!({ "url": format!("https://example.org/x?a=1&api_key={CANARY}&b=2") }),
            json!({ "path": format!("/x?token={CANARY}") }),
            json!({ "password": format!("${{env:A}}{CANARY}${{env:B}}") }),
        ] {
            assert!(!redacted(value.clone()).to_string().contains(CANARY), "{value}");
        }
        assert_eq!(redacted(json!({ "pin": 1234 })), json!({ "pin": "***" }));
    }

    #[test]
    fn references_and_harmless_members_stay() {
        let value = json!({
            "base_url": "https://me:${env:PASSWORD}@example.org/x?page=1",
            "auth": { "type": "bearer", "token": "${env:TOKEN}" },
            "path": "$.features[?@.id]", "table": "orders", "timeout": 30, "monkey": "banana",
        });
        assert_eq!(redacted(value.clone()), value);
    }
}
