//! Text that is known to be one JSON value, handed to serde as `serde_json` hands over its own, so
//! that making a `&RawValue` of it does not scan it a second time.

use serde::de::value::{BorrowedStrDeserializer, Error, StrDeserializer};
use serde::de::{DeserializeSeed, Error as _, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, forward_to_deserialize_any};
use serde_json::value::RawValue;

use crate::scan::Broken;

/// Makes a `RawValue` of text that was found to be one value.
#[inline]
pub(crate) fn known_value(text: &str) -> Result<&RawValue, Broken> {
    // Should a later serde_json ask for it in another way, it reads the text itself.
    <&RawValue>::deserialize(Known(text))
        .or_else(|_| serde_json::from_str(text).map_err(|_| Broken))
}

/// Text that is one JSON value, without space around it.
pub(crate) struct Known<'a>(pub(crate) &'a str);

impl<'de> Deserializer<'de> for Known<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::custom("only a raw value can be made of it"))
    }

    /// A raw value asks for a newtype of a name of its own, and takes a map of that name.
    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Entry { name: Some(name), text: self.0 })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Entry<'a> {
    name: Option<&'static str>,
    text: &'a str,
}

impl<'de> MapAccess<'de> for Entry<'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.name.take() else { return Ok(None) };
        let name: StrDeserializer<'_, Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(BorrowedStrDeserializer::new(self.text))
    }
}
