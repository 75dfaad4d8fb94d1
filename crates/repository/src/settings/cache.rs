//! Whether a model's answers are kept: `true`, `false`, or a table that says how long as well.

use std::fmt;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What of a model's answers is kept for equal requests.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CacheSettings {
    /// Whether any are kept.
    pub enabled: Option<bool>,
    /// How long an answer stays good.
    pub time_to_live: Option<Duration>,
    /// Bytes of this model's answers at most, within those of the whole cache.
    pub bytes: Option<ByteSize>,
}

/// The table.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    #[serde(skip_serializing_if = "Option::is_none")]
    enabled: Option<bool>,
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    time_to_live: Option<Duration>,
    #[serde(with = "super::size::option", skip_serializing_if = "Option::is_none")]
    bytes: Option<ByteSize>,
}

impl Serialize for CacheSettings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self { enabled: Some(enabled), time_to_live: None, bytes: None } => {
                enabled.serialize(serializer)
            }
            Self { enabled, time_to_live, bytes } => {
                Table { enabled, time_to_live, bytes }.serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for CacheSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = CacheSettings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a table")
            }

            fn visit_bool<E: de::Error>(self, enabled: bool) -> Result<CacheSettings, E> {
                Ok(CacheSettings { enabled: Some(enabled), ..CacheSettings::default() })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<CacheSettings, A::Error> {
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let Table { enabled, time_to_live, bytes } = table;
                Ok(CacheSettings { enabled, time_to_live, bytes })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
