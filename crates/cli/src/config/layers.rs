//! Where settings come from: flag over environment over file over default.

use std::path::Path;

use anyhow::{Context, anyhow, bail};
use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format, Serialized, Toml};
use inferring_repository::{UnknownKey, wrong_value};
use inferring_worker::InvalidConfig;
use serde::Serialize;

use super::Config;
use crate::common::Common;

/// Settings given on the command line.
#[derive(Debug, Default)]
pub(crate) struct Overrides(Figment);

impl Overrides {
    /// Sets `key` (dotted) where `value` was given.
    #[must_use]
    pub(crate) fn with(self, key: &'static str, value: Option<impl Serialize>) -> Self {
        match value {
            Some(value) => Self(self.0.merge(Serialized::global(key, value))),
            None => self,
        }
    }

    /// Sets `key` where `values` is not empty.
    #[must_use]
    pub(crate) fn with_list(self, key: &'static str, values: &[impl Serialize]) -> Self {
        self.with(key, (!values.is_empty()).then_some(values))
    }

    fn with_common(self, common: &Common) -> anyhow::Result<Self> {
        let mut overrides = self
            .with("backend.device", common.device.as_ref())
            .with("backend.library", common.onnxruntime.as_ref())
            .with("log.filter", common.log.as_ref());
        for setting in &common.set {
            let (key, value) = setting.split_once('=').ok_or_else(|| {
                anyhow!("--set {setting}: expected KEY=VALUE, such as worker.cache.entries=500")
            })?;
            overrides = Self(overrides.0.merge(Serialized::global(key.trim(), toml_value(value))));
        }
        Ok(overrides)
    }
}

/// The settings in force.
///
/// # Errors
/// One paragraph that names the setting, what is wrong with it and where it was given.
pub(crate) fn load(common: &Common, overrides: Overrides) -> anyhow::Result<Config> {
    let mut figment = Figment::new();
    if let Some(path) = &common.config {
        figment = figment.merge(file(path)?);
    }
    figment = figment
        .merge(Env::prefixed("INFERRING_").ignore(&["config"]).split("__"))
        .merge(overrides.with_common(common)?.0);
    let config: Config = figment.extract().map_err(|error| explain(&error))?;
    if let Err(InvalidConfig { key, problem }) = config.worker.check() {
        bail!("setting `worker.{key}`: {problem}");
    }
    Ok(config)
}

fn file(path: &Path) -> anyhow::Result<impl figment::Provider + use<>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file `{}`", path.display()))?;
    if let Err(error) = text.parse::<toml::Table>() {
        bail!("the configuration file `{}` is not TOML: {error}", path.display());
    }
    Ok(Toml::file_exact(path))
}

/// A value as TOML writes it; anything else is a text.
fn toml_value(text: &str) -> toml::Value {
    let document: Result<toml::Table, _> = format!("value = {text}").parse();
    match document.ok().and_then(|mut table| table.remove("value")) {
        Some(value) => value,
        None => toml::Value::String(text.to_owned()),
    }
}

fn explain(error: &figment::Error) -> anyhow::Error {
    let place = error.metadata.as_ref().map(|metadata| match &metadata.source {
        Some(figment::Source::File(path)) => format!("`{}`", path.display()),
        _ if metadata.name.contains("environment") => "an INFERRING_* variable".to_owned(),
        _ => "the command line".to_owned(),
    });
    let place = place.map(|place| format!(" (from {place})")).unwrap_or_default();
    let key = error.path.join(".");
    match &error.kind {
        Kind::UnknownField(unknown, known) => {
            let UnknownKey { key, nearest, known } = UnknownKey::new(&key, unknown, known);
            anyhow!("unknown setting `{key}`{place}{nearest} Known here: {known}")
        }
        kind => anyhow!("setting `{key}`{place}: {}", wrong_value(kind)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use bytesize::ByteSize;

    use super::*;

    fn common(file: Option<&str>, set: &[&str]) -> (Common, Option<tempfile::NamedTempFile>) {
        let file = file.map(|text| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        });
        let common = Common {
            config: file.as_ref().map(|file| file.path().to_owned()),
            set: set.iter().map(ToString::to_string).collect(),
            device: None,
            onnxruntime: None,
            log: None,
        };
        (common, file)
    }

    fn error(file: Option<&str>, set: &[&str]) -> String {
        let (common, _file) = common(file, set);
        load(&common, Overrides::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let text = "models = [\"a.onnx\"]\n[worker.cache]\nentries = 7\nbytes = \"1MiB\"\n\
                    [gateway.breaker]\nopen_timeout = \"3s\"";
        let (common, _file) = common(Some(text), &["worker.cache.entries=9"]);
        let overrides = Overrides::default().with("listen.gateway", Some("0.0.0.0:1"));
        let config = load(&common, overrides).unwrap();
        assert_eq!(config.worker.cache.entries, 9);
        assert_eq!(config.worker.cache.bytes.as_u64(), 1 << 20);
        assert_eq!(config.gateway.breaker.open_timeout.as_secs(), 3);
        assert_eq!(config.listen.gateway, "0.0.0.0:1");
        assert_eq!(config.listen.worker, "127.0.0.1:8001");
        assert_eq!(config.gateway.ring.points_per_worker, 512);
    }

    #[test]
    fn an_unknown_key_names_the_nearest_known_one() {
        let message = error(Some("[worker.cache]\nentires = 7"), &[]);
        assert!(message.contains("`worker.cache.entires`"), "{message}");
        assert!(message.contains("did you mean `worker.cache.entries`?"), "{message}");
        let message = error(None, &["gatway.ring.points_per_worker=150"]);
        assert!(message.contains("did you mean `gateway`?"), "{message}");
    }

    #[test]
    fn a_mistyped_value_names_its_setting() {
        for (set, name) in [
            ("worker.batching.delay_max=20", "worker.batching.delay_max"),
            ("worker.batching.size_max=0", "worker.batching.size_max"),
            ("worker.batching.default_priority=4", "worker.batching.default_priority"),
            ("worker.instances=0", "worker.instances"),
            ("worker.instances=some", "worker.instances"),
            ("worker.pinning=sockets", "worker.pinning"),
            ("backend.device=gpu", "backend.device"),
            ("server.body_size_max=big", "server.body_size_max"),
        ] {
            let message = error(None, &[set]);
            assert!(message.starts_with(&format!("setting `{name}`")), "{message}");
        }
        assert!(error(Some("models = ["), &[]).contains("is not TOML"));
    }

    #[test]
    fn the_commented_example_is_every_setting_at_its_default() {
        let text = include_str!("../../../../config/inferring.toml");
        let example: toml::Table = text.parse().unwrap();
        let defaults = toml::Table::try_from(Config::default()).unwrap();
        assert_eq!(keys(&example), keys(&defaults));
        let (common, _file) = common(Some(text), &[]);
        assert_eq!(load(&common, Overrides::default()).unwrap(), Config::default());
    }

    /// All keys, dotted.
    fn keys(table: &toml::Table) -> Vec<String> {
        let of_entry = |(key, value): (&String, &toml::Value)| match value {
            toml::Value::Table(inner) => {
                keys(inner).into_iter().map(|rest| format!("{key}.{rest}")).collect()
            }
            _ => vec![key.clone()],
        };
        let mut keys: Vec<String> = table.iter().flat_map(of_entry).collect();
        keys.sort();
        keys
    }

    #[test]
    fn what_is_shown_reads_back_as_it_was() {
        let (common, _) = common(None, &["worker.cache.time_to_live=5m", "server.threads=3"]);
        let mut config = load(&common, Overrides::default()).unwrap();
        assert_eq!(config.worker.instances, None);
        let text = toml::to_string(&config).unwrap();
        let read: Config = toml::from_str(&text).unwrap();
        assert_eq!(read, config);
        config.worker.instances = NonZeroUsize::new(4);
        config.worker.run_limit = Some(Duration::from_secs(3));
        config.worker.cache.bytes = ByteSize(1_234_567);
        let read: Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(read, config);
    }
}
