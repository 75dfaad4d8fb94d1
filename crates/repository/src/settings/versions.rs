//! Version policies and aliases: `{ latest = 2 }`, `"all"`, `[1, 3]`; `stable = 3`.

use std::fmt;
use std::num::NonZeroUsize;

use inferring_types::{ModelVersion, VersionPolicy};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A version as a number or a text.
struct Version(ModelVersion);

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_str().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Version;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a version, such as 3 or \"3\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Version, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Version, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Version, E> {
                let version = text.parse().map_err(E::custom)?;
                if is_version(&version) {
                    Ok(Version(version))
                } else {
                    Err(E::custom(format!("`{text}` is no version: expected a number from 1 on")))
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Whether a version can be that of a folder: a number from 1 on without leading zeros.
pub(crate) fn is_version(version: &ModelVersion) -> bool {
    let text = version.as_str();
    text.bytes().all(|b| b.is_ascii_digit())
        && !text.starts_with('0')
        && text.parse::<i64>().is_ok()
}

pub(super) fn serialize<S: Serializer>(
    policy: &Option<VersionPolicy>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let form = policy.as_ref().map(|policy| match policy {
        VersionPolicy::Latest(count) => Form::Latest { latest: *count },
        VersionPolicy::All => Form::Word("all".to_owned()),
        VersionPolicy::Specific(versions) => {
            Form::Specific(versions.iter().cloned().map(Version).collect())
        }
    });
    form.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<VersionPolicy>, D::Error> {
    let policy = match Option::<Form>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Form::Latest { latest }) => VersionPolicy::Latest(latest),
        Some(Form::Word(word)) if word == "all" => VersionPolicy::All,
        Some(Form::Word(word)) => {
            return Err(de::Error::invalid_value(de::Unexpected::Str(&word), &EXPECTED));
        }
        Some(Form::Specific(versions)) if versions.is_empty() => {
            return Err(de::Error::invalid_length(0, &"at least one version"));
        }
        Some(Form::Specific(versions)) => {
            VersionPolicy::Specific(versions.into_iter().map(|version| version.0).collect())
        }
    };
    Ok(Some(policy))
}

const EXPECTED: &str = "`{ latest = N }`, \"all\" or a list of versions";

#[derive(Serialize)]
#[serde(untagged)]
enum Form {
    Latest { latest: NonZeroUsize },
    Word(String),
    Specific(Vec<Version>),
}

// Not derived: an untagged enum forgets which of its forms was meant, and so what was wrong.
impl<'de> Deserialize<'de> for Form {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Latest {
            latest: NonZeroUsize,
        }
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Form;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Form, E> {
                Ok(Form::Word(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, list: A) -> Result<Form, A::Error> {
                Vec::deserialize(de::value::SeqAccessDeserializer::new(list)).map(Form::Specific)
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Form, A::Error> {
                let form = Latest::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Form::Latest { latest: form.latest })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Aliases, as a table of names and versions.
pub(super) mod aliases {
    use std::collections::BTreeMap;

    use inferring_types::ModelVersion;
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Version;

    pub(in crate::settings) fn serialize<S: Serializer>(
        aliases: &BTreeMap<ModelVersion, ModelVersion>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer
            .collect_map(aliases.iter().map(|(alias, version)| (alias.as_str(), version.as_str())))
    }

    pub(in crate::settings) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<ModelVersion, ModelVersion>, D::Error> {
        let table = BTreeMap::<String, Version>::deserialize(deserializer)?;
        let alias = |(name, version): (String, Version)| {
            let alias: ModelVersion = name.parse().map_err(de::Error::custom)?;
            if name.bytes().all(|b| b.is_ascii_digit()) {
                let text = format!("`{name}` is a number: an alias must not look like a version");
                return Err(de::Error::custom(text));
            }
            Ok((alias, version.0))
        };
        table.into_iter().map(alias).collect()
    }
}
