//! Flags of their own for what is often set about served models. Everything else has `--set`.

use super::Overrides;

/// What the serving commands understand about their models.
#[derive(Debug, clap::Args)]
pub(crate) struct ServingFlags {
    /// Follow what becomes of the models' files, looked at this often: new versions and models
    /// are loaded, changed ones anew, and what is gone is unloaded.
    #[arg(
        long,
        value_name = "INTERVAL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s"
    )]
    watch: Option<String>,
    /// How many runs of a model may go on beside each other: a number, or auto to go by the
    /// cores. A model's own settings go before it.
    #[arg(long, value_name = "N", value_parser = instances)]
    instances: Option<toml::Value>,
    /// How long answers are kept for equal requests, such as 10m; for ever by default.
    #[arg(long, value_name = "TIME")]
    cache_ttl: Option<String>,
}

impl ServingFlags {
    /// Adds what was given to the settings of the command line.
    pub(crate) fn over(self, settings: Overrides) -> Overrides {
        settings
            .with("worker.watch", self.watch)
            .with("worker.instances", self.instances)
            .with("worker.cache.time_to_live", self.cache_ttl)
    }
}

/// The value as the setting has it.
fn instances(text: &str) -> Result<toml::Value, &'static str> {
    if text == "auto" {
        return Ok(toml::Value::String(text.to_owned()));
    }
    let number = text.parse::<u32>().ok().filter(|number| *number > 0);
    number.map(toml::Value::from).ok_or("expected auto or a number from 1 on")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use clap::Parser;

    use super::*;
    use crate::common::Common;
    use crate::config;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        flags: ServingFlags,
    }

    fn load(line: &[&str]) -> config::Config {
        let line = Line::try_parse_from(std::iter::once(&"inferring").chain(line)).unwrap();
        config::load(&line.common, line.flags.over(Overrides::default())).unwrap()
    }

    #[test]
    fn flags_set_what_they_are_for() {
        let worker = load(&["--instances", "3", "--cache-ttl", "10m", "--watch"]).worker;
        assert_eq!(worker.instances, NonZeroUsize::new(3));
        assert_eq!(worker.cache.time_to_live.unwrap().as_secs(), 600);
        assert_eq!(worker.watch.unwrap().as_secs(), 2);
        assert_eq!(load(&["--instances", "auto"]).worker.instances, None);
        let given = load(&["--set", "worker.instances=2"]).worker;
        assert_eq!((given.instances, given.watch), (NonZeroUsize::new(2), None));
    }

    #[test]
    fn a_number_of_instances_is_told_from_what_is_none() {
        for text in ["0", "-1", "two", ""] {
            let error = Line::try_parse_from(["inferring", &format!("--instances={text}")]);
            let error = error.unwrap_err().to_string();
            assert!(error.contains("expected auto or a number from 1 on"), "{error}");
        }
    }
}
