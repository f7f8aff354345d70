//! A secret that shows itself to nobody who does not ask for it by name.

use std::fmt;

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A secret as metadata carry it: a reference (`${env:NAME}`, `${file:/path}`) or, once resolved,
/// its value. Neither Debug nor Serialize ever show the value.
#[derive(Clone, JsonSchema)]
#[schemars(with = "String", extend("writeOnly" = true))]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// The value, to be handed to whoever must authenticate, and to nobody else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let value = self.expose();
        let reference = value.starts_with("${") && value.ends_with('}') && !value.contains(' ');
        serializer.serialize_str(if reference { value } else { "***" })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_shown_and_a_reference_is() {
        let value = Secret::new("hunter2");
        assert!(!format!("{value:?}").contains("hunter2"));
        assert_eq!(serde_json::to_string(&value).unwrap(), "\"***\"");
        let reference = Secret::new("${env:TOKEN}");
        assert_eq!(serde_json::to_string(&reference).unwrap(), "\"${env:TOKEN}\"");
    }
}
