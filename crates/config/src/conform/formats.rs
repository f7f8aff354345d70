//! The formats of texts that a schema can name, and what is said of a text that has another form.

use jsonschema::ValidationOptions;
use serde_json_path::JsonPath;

use crate::address;

/// The address of a web API.
const ADDRESS: &str = "uri";
/// A JSONPath (RFC 9535), as the connectors' schemas call it.
const JSON_PATH: &str = "json-path";

/// The options, with the formats that we know. Others say nothing about a text.
pub(super) fn checked(options: ValidationOptions<'_>) -> ValidationOptions<'_> {
    let known = |name: &'static str| (name, move |text: &str| told(name, text).is_none());
    let ((uri, is_address), (path, is_path)) = (known(ADDRESS), known(JSON_PATH));
    options.should_validate_formats(true).with_format(uri, is_address).with_format(path, is_path)
}

/// What is wrong with a text that should have this format, and what would be right.
pub(super) fn told(format: &str, text: &str) -> Option<(String, Option<String>)> {
    let (problem, help) = match format {
        ADDRESS => (
            address::wrong(text)?.to_owned(),
            "write http:// or https:// and a host, such as https://api.example.com/v1",
        ),
        // That it begins with $ the schemas ask for themselves.
        JSON_PATH if !text.starts_with('$') => return None,
        JSON_PATH => (no_json_path(text)?, "write a JSONPath (RFC 9535), such as $.data[*]"),
        _ => return None,
    };
    Some((problem, Some(help.to_owned())))
}

/// What is wrong with a JSONPath.
pub(crate) fn no_json_path(text: &str) -> Option<String> {
    let error = JsonPath::parse(text).err()?;
    Some(format!("this is no JSONPath: {}", error.message()))
}
