//! The models that are served at one moment, and how one of them is found.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::{ModelMetadata, ModelSelector, ServiceError};

/// Something that is served under a model's name and version.
pub trait Described {
    /// Name, version, and the rest.
    fn metadata(&self) -> &ModelMetadata;
}

impl Described for ModelMetadata {
    fn metadata(&self) -> &Self {
        self
    }
}

impl<T: Described> Described for Arc<T> {
    fn metadata(&self) -> &ModelMetadata {
        T::metadata(self)
    }
}

/// What is served at one moment: versions of models, those of one model side by side. The first
/// model is the default one.
#[derive(Debug, Clone)]
pub struct ModelCatalog<T>(Vec<T>);

impl<T> Default for ModelCatalog<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Described> ModelCatalog<T> {
    /// A catalog of these, in this order.
    pub fn new(served: impl IntoIterator<Item = T>) -> Self {
        Self(served.into_iter().collect())
    }

    /// Everything served.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    /// Whether nothing is served.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a request asks for: the default model where it names none, and of a model's
    /// versions the newest where it names none.
    pub fn get(&self, asked: ModelSelector<'_>) -> Option<&T> {
        let mut versions = self.versions_of(self.name_of(asked)?);
        match asked.version {
            None => versions.max_by(|a, b| a.metadata().version.cmp(&b.metadata().version)),
            Some(version) => versions.find(|model| model.metadata().answers_to(version)),
        }
    }

    /// What [`Self::get`] gives.
    ///
    /// # Errors
    /// `NotFound`, which names what there is.
    pub fn find(&self, asked: ModelSelector<'_>) -> Result<&T, ServiceError> {
        self.get(asked).ok_or_else(|| self.not_found(asked))
    }

    /// The versions of the model of that name, in the catalog's order.
    pub fn versions_of(&self, name: &str) -> impl Iterator<Item = &T> {
        self.0.iter().filter(move |model| model.metadata().name.as_str() == name)
    }

    fn name_of<'a>(&'a self, asked: ModelSelector<'a>) -> Option<&'a str> {
        asked.name.or_else(|| Some(self.0.first()?.metadata().name.as_str()))
    }

    fn not_found(&self, asked: ModelSelector<'_>) -> ServiceError {
        let Some(name) = self.name_of(asked) else {
            return ServiceError::not_found("no model is served here");
        };
        let versions: Vec<_> =
            self.versions_of(name).map(|model| model.metadata().version.as_str()).collect();
        match asked.version {
            Some(version) if !versions.is_empty() => ServiceError::not_found(format!(
                "model `{name}` has no version `{}` (served here: {})",
                Quoted(version),
                list(versions.into_iter()),
            )),
            _ => self.no_model(name),
        }
    }

    fn no_model(&self, name: &str) -> ServiceError {
        let mut names: Vec<_> = self.0.iter().map(|model| model.metadata().name.as_str()).collect();
        names.dedup();
        let served = if names.is_empty() { "none".to_owned() } else { list(names.into_iter()) };
        ServiceError::not_found(format!("no model `{}` (served here: {served})", Quoted(name)))
    }
}

/// A text from outside, made visible and not repeated at any length.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN_MAX: usize = 80;
        let mut shown = self.0.chars();
        for c in shown.by_ref().take(SHOWN_MAX) {
            write!(f, "{}", c.escape_debug())?;
        }
        if shown.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// Names with commas between, a long list cut short.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN_MAX: usize = 20;
    let mut text = String::new();
    for (index, name) in names.enumerate() {
        if index == SHOWN_MAX {
            text.push_str(", …");
            break;
        }
        let separator = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{separator}{name}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batching, ContentDigest, ErrorKind};

    fn catalog(models: &[(&str, &str, &[&str])]) -> ModelCatalog<Arc<ModelMetadata>> {
        ModelCatalog::new(models.iter().map(|(name, version, aliases)| {
            Arc::new(ModelMetadata {
                name: name.parse().unwrap(),
                version: version.parse().unwrap(),
                aliases: aliases.iter().map(|alias| alias.parse().unwrap()).collect(),
                digest: ContentDigest::of(b"m"),
                size_bytes: 1,
                inputs: Vec::new(),
                outputs: Vec::new(),
                batching: Batching::Alone { reason: String::new() },
                batch_size_max: 0,
            })
        }))
    }

    #[test]
    fn the_newest_version_answers_where_none_is_named() {
        let catalog =
            catalog(&[("a", "9", &["stable"]), ("a", "10", &["canary", "next"]), ("b", "1", &[])]);
        for (name, version, expected) in [
            (None, None, "a 10"),
            (Some("a"), None, "a 10"),
            (Some("a"), Some("9"), "a 9"),
            (Some("a"), Some("stable"), "a 9"),
            (None, Some("next"), "a 10"),
            (Some("b"), None, "b 1"),
        ] {
            let found = catalog.find(ModelSelector { name, version }).unwrap();
            assert_eq!(format!("{} {}", found.name, found.version), expected);
        }
    }

    #[test]
    fn what_is_missing_is_told_beside_what_there_is() {
        let some = catalog(&[("a", "1", &[]), ("a", "2", &[]), ("b", "1", &[])]);
        let long = "x".repeat(10_000);
        for (catalog, asked, message) in [
            (&some, ModelSelector::named("c\n"), "no model `c\\n` (served here: a, b)"),
            (
                &some,
                ModelSelector::new("a", Some("3")),
                "model `a` has no version `3` (served here: 1, 2)",
            ),
            (&some, ModelSelector::new("c", Some("3")), "no model `c` (served here: a, b)"),
            (&ModelCatalog::default(), ModelSelector::default(), "no model is served here"),
            (
                &ModelCatalog::default(),
                ModelSelector::named("a"),
                "no model `a` (served here: none)",
            ),
        ] {
            let error = catalog.find(asked).unwrap_err();
            assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::NotFound, message));
        }
        let error = some.find(ModelSelector::named(&long)).unwrap_err();
        assert!(error.to_string().len() < 200);
    }
}
