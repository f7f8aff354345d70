//! Which settings there are: the schema of [`Settings`] as a tree of keys.

use serde_json::Value;

use super::Settings;

/// The settings' schema, everything in place and nothing required: as a file may give them.
pub(crate) fn schema() -> Value {
    let options = schemars::generate::SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
    });
    let schema = options.into_generator().into_root_schema_for::<Settings>();
    let mut schema = schema.to_value();
    forget_required(&mut schema);
    schema
}

/// The schema of the setting with these keys, or of the table of settings.
pub(crate) fn at<'s>(schema: &'s Value, keys: &[&str]) -> Option<&'s Value> {
    keys.iter().try_fold(schema, |node, key| node.get("properties")?.get(*key))
}

/// Whether this is a table of further settings.
pub(crate) fn is_table(schema: &Value) -> bool {
    schema.get("properties").is_some()
}

/// All settings, dotted, in the order of the schema.
pub(crate) fn dotted(schema: &Value) -> Vec<String> {
    let mut all = Vec::new();
    collect(schema, "", &mut all);
    all
}

fn collect(schema: &Value, prefix: &str, all: &mut Vec<String>) {
    let Some(members) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, member) in members {
        let dotted = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        if is_table(member) {
            collect(member, &dotted, all);
        } else {
            all.push(dotted);
        }
    }
}

fn forget_required(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            // A list is the keyword; a setting may have the name.
            if members.get("required").is_some_and(Value::is_array) {
                members.remove("required");
            }
            members.values_mut().for_each(forget_required);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_required),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_stands_in_the_defaults_with_its_value_or_as_a_comment() {
        let defaults: Value = toml::from_str(super::super::DEFAULT_SETTINGS).unwrap();
        let schema = schema();
        for dotted in dotted(&schema) {
            let name = dotted.rsplit('.').next().unwrap();
            let given = defaults.pointer(&format!("/{}", dotted.replace('.', "/"))).is_some();
            let commented = super::super::DEFAULT_SETTINGS.contains(&format!("# {name} = "));
            assert!(given || commented, "{dotted} is missing in default.toml");
        }
    }
}
