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
///
/// Requests look a model up by name, among thousands if need be: an index beside the list keeps
/// that at a few comparisons.
#[derive(Debug, Clone)]
pub struct ModelCatalog<T> {
    served: Vec<T>,
    /// Places in `served`, by name and then by version, the newest last.
    by_name: Vec<usize>,
}

impl<T> Default for ModelCatalog<T> {
    fn default() -> Self {
        Self { served: Vec::new(), by_name: Vec::new() }
    }
}

impl<T: Described> ModelCatalog<T> {
    /// A catalog of these, in this order.
    pub fn new(served: impl IntoIterator<Item = T>) -> Self {
        let served: Vec<T> = served.into_iter().collect();
        let mut by_name: Vec<usize> = (0..served.len()).collect();
        by_name.sort_by(|&a, &b| {
            let [a, b] = [a, b].map(|place: usize| served[place].metadata());
            a.name.cmp(&b.name).then_with(|| a.version.cmp(&b.version))
        });
        Self { served, by_name }
    }

    /// Everything served.
    pub fn iter(&self) -> std::slice::Iter<'_, T> {
        self.served.iter()
    }

    /// Whether nothing is served.
    pub fn is_empty(&self) -> bool {
        self.served.is_empty()
    }

    /// What a request asks for: the default model where it names none, and of a model's
    /// versions the newest where it names none.
    pub fn get(&self, asked: ModelSelector<'_>) -> Option<&T> {
        let mut versions = self.versions_of(self.name_of(asked)?);
        match asked.version {
            None => versions.next_back(),
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

    /// The versions of the model of that name, the newest last.
    pub fn versions_of(&self, name: &str) -> impl DoubleEndedIterator<Item = &T> + use<'_, T> {
        let name_at = |place: &usize| self.served[*place].metadata().name.as_str();
        let start = self.by_name.partition_point(|place| name_at(place) < name);
        let versions = self.by_name[start..].partition_point(|place| name_at(place) == name);
        self.by_name[start..start + versions].iter().map(|&place| &self.served[place])
    }

    fn name_of<'a>(&'a self, asked: ModelSelector<'a>) -> Option<&'a str> {
        asked.name.or_else(|| Some(self.served.first()?.metadata().name.as_str()))
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
        let mut names: Vec<_> =
            self.served.iter().map(|model| model.metadata().name.as_str()).collect();
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

    /// However the versions of many models lie in the catalog, each is found by its name.
    #[test]
    fn each_of_many_models_is_found() {
        let names: Vec<String> = (0..500).map(|n| format!("m{}", n * 7919 % 500)).collect();
        let models: Vec<_> = ["2", "10", "1"]
            .iter()
            .flat_map(|version| names.iter().map(move |name| (&name[..], *version, &[][..])))
            .collect();
        let catalog = catalog(&models);
        for name in &names {
            let newest = catalog.get(ModelSelector::named(name)).unwrap();
            assert_eq!((newest.name.as_str(), newest.version.as_str()), (&name[..], "10"));
            let versions: Vec<_> =
                catalog.versions_of(name).map(|model| model.version.to_string()).collect();
            assert_eq!(versions, ["1", "2", "10"]);
        }
        assert!(catalog.get(ModelSelector::named("m")).is_none());
        assert_eq!(catalog.iter().count(), models.len());
        assert_eq!(catalog.get(ModelSelector::default()).unwrap().name.as_str(), names[0]);
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
