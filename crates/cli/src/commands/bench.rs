//! `inferring bench`: puts load on a gateway or a worker, and reports what it measured.

use std::num::{NonZeroU64, NonZeroUsize};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use inferring_loadgen::{
    BenchConfig, BenchError, Form, Interrupt, Limit, ProgressBar, Schedule, Target, Test,
    WorkloadConfig, bench,
};
use inferring_types::{ModelName, Shape};

use crate::common::Output;
use crate::node;

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    /// The server to put load on: a gateway, or a single worker.
    #[arg(long, value_name = "URL", default_value = "http://localhost:8000")]
    gateway: Target,
    /// The model to ask; the server's default one otherwise.
    #[arg(long, value_name = "NAME")]
    model: Option<ModelName>,
    /// End after this many requests [default: 10000, without --duration].
    #[arg(long, value_name = "N")]
    requests: Option<NonZeroU64>,
    /// End after this time, as 30s or 2m.
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    duration: Option<Duration>,
    /// Connections, each with at most one request under way.
    #[arg(long, value_name = "N", default_value = "50")]
    concurrency: NonZeroUsize,
    /// Send at this constant rate, and count latencies from when each request was due; back to
    /// back on every connection otherwise.
    #[arg(long, value_name = "PER_SECOND", value_parser = positive_rate)]
    rate: Option<f64>,
    /// Different inputs that take turns; otherwise every request has its own.
    #[arg(long, value_name = "N")]
    distinct: Option<NonZeroU64>,
    /// The inputs' shape, as 1,3,224,224; otherwise one row, and 32 for other open dimensions.
    #[arg(long, value_name = "SIZES", value_parser = shape)]
    shape: Option<Shape>,
    /// How requests are written: numbers as JSON to /infer, or as bytes to /v2. By default plain
    /// where the model has one input.
    #[arg(long, value_name = "FORM", value_parser = form)]
    form: Option<Form>,
    /// Fill an input with one number, as attention_mask=1.
    #[arg(long = "constant", value_name = "INPUT=NUMBER", value_parser = constant)]
    constants: Vec<(String, f64)>,
    /// Make the same inputs as the run that reported this seed. A new seed otherwise, since the
    /// server remembers the answers to the last one's inputs.
    #[arg(long, value_name = "N")]
    seed: Option<u32>,
    /// Requests to send before the measurement, with inputs of their own.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,
    /// How long a request may take.
    #[arg(long, value_name = "TIME", value_parser = positive_duration, default_value = "10s")]
    timeout: Duration,
    /// Report the goodput: answers per second that took no longer than this, as 50ms.
    #[arg(long, value_name = "TIME", value_parser = positive_duration, conflicts_with = "cache_test")]
    slo: Option<Duration>,
    /// Measure the result cache instead: --distinct inputs [default: 500, or --requests if fewer]
    /// once, then once more. Checks that the second answers come from the cache, and are the
    /// first ones to the byte.
    #[arg(long, conflicts_with = "duration")]
    cache_test: bool,
    /// Workers behind the gateway, whose own counters to report too.
    #[arg(long, value_name = "URL", num_args = 1.., value_delimiter = ',')]
    workers: Vec<Target>,
    /// Read no counters from the servers.
    #[arg(long, conflicts_with = "workers")]
    no_stats: bool,
    /// How to print the report.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// The server could not be reached at all.
const EXIT_UNREACHABLE: u8 = 2;

pub(crate) fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let output = args.output;
    let config = args.into_config();
    let mut bar = ProgressBar::new();
    let outcome = node::control_runtime()?.block_on(async {
        let interrupt = Interrupt::on(ctrl_c());
        bench(&config, interrupt, &mut |progress| bar.show(progress)).await
    });
    bar.clear();
    let report = match outcome {
        Ok(report) => report,
        Err(error @ BenchError::Unreachable { .. }) => {
            eprintln!(
                "error: {error}. Nothing was measured. Is a gateway or a worker running there? \
                 `inferring doctor --gateway {}` tells what runs and what does not; --gateway \
                 names another address.",
                config.target,
            );
            return Ok(ExitCode::from(EXIT_UNREACHABLE));
        }
        Err(error @ BenchError::NoModel { .. }) => {
            let target = &config.target;
            bail!("{error}. `inferring doctor --gateway {target}` tells which workers it reaches");
        }
        Err(error) => return Err(error.into()),
    };
    match output {
        Output::Text => print!("{report}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(if report.succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl BenchArgs {
    /// Requests where neither a number nor a time is given.
    const REQUESTS_DEFAULT: u64 = 10_000;

    /// Inputs of a cache test that names no number: half of what one worker remembers by default.
    const CACHE_TEST_MAX: u64 = 500;

    fn into_config(self) -> BenchConfig {
        let distinct = self.distinct.map(NonZeroU64::get);
        let requests = match (self.requests, self.duration) {
            (None, None) => Some(Self::REQUESTS_DEFAULT),
            (requests, _) => requests.map(NonZeroU64::get),
        };
        let test = if self.cache_test {
            let inputs = requests.unwrap_or(u64::MAX).min(Self::CACHE_TEST_MAX);
            Test::Cache { inputs: distinct.unwrap_or(inputs) }
        } else {
            Test::Load(Limit { requests, duration: self.duration })
        };
        let seed = self.seed.unwrap_or_else(|| fastrand::u32(..)).into();
        BenchConfig {
            target: self.gateway,
            model: self.model,
            test,
            schedule: self.rate.map_or(Schedule::Closed, |rate| Schedule::Open { rate }),
            concurrency: self.concurrency,
            workload: WorkloadConfig {
                distinct,
                shape: self.shape,
                seed,
                form: self.form,
                constants: self.constants.into_iter().collect(),
            },
            warm_up: self.warmup,
            timeout: self.timeout,
            service_level: self.slo,
            observe: (!self.no_stats).then_some(self.workers),
        }
    }
}

/// Ends with the first Ctrl-C; the second one ends the process at once.
async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        // Without a handler the system's own ends the process: nothing to wait for.
        std::future::pending::<()>().await;
    }
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
}

fn positive_duration(text: &str) -> anyhow::Result<Duration> {
    let duration = humantime::parse_duration(text).context("expected a time such as 30s")?;
    ensure!(!duration.is_zero(), "expected a time above zero");
    Ok(duration)
}

fn positive_rate(text: &str) -> anyhow::Result<f64> {
    let rate: f64 = text.parse().context("expected requests per second")?;
    ensure!(rate.is_finite() && rate > 0.0, "expected a rate above zero");
    Ok(rate)
}

fn form(text: &str) -> anyhow::Result<Form> {
    match text {
        "plain" => Ok(Form::Plain),
        "binary" => Ok(Form::Binary),
        _ => bail!("expected `plain` or `binary`"),
    }
}

fn constant(text: &str) -> anyhow::Result<(String, f64)> {
    let (input, number) = text.rsplit_once('=').context("expected a text such as mask=1")?;
    Ok((input.to_owned(), number.parse().context("expected a number behind `=`")?))
}

fn shape(text: &str) -> anyhow::Result<Shape> {
    let sizes = text.trim_start_matches('[').trim_end_matches(']').split(',');
    let sizes = sizes.map(|size| size.trim().parse::<u64>());
    let sizes =
        sizes.collect::<Result<Vec<_>, _>>().context("expected sizes such as 1,3,224,224")?;
    Ok(Shape::new(sizes))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn config(line: &str) -> Result<BenchConfig, String> {
        let words = std::iter::once("bench").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(line.bench.into_config())
    }

    #[test]
    fn the_bounds_are_what_is_asked_for_and_10_000_requests_otherwise() {
        let thirty = Some(Duration::from_secs(30));
        for (line, requests, duration) in [
            ("", Some(10_000), None),
            ("--requests 7", Some(7), None),
            ("--duration 30s", None, thirty),
            ("--duration 30s --requests 7", Some(7), thirty),
        ] {
            let test = config(line).unwrap().test;
            assert_eq!(test, Test::Load(Limit { requests, duration }), "{line}");
        }
        for (line, inputs) in [
            ("--cache-test", 500),
            ("--cache-test --requests 10000", 500),
            ("--cache-test --requests 20", 20),
            ("--cache-test --distinct 900", 900),
        ] {
            assert_eq!(config(line).unwrap().test, Test::Cache { inputs }, "{line}");
        }
    }

    #[test]
    fn every_flag_arrives() {
        let config = config(
            "--gateway localhost:9000 --concurrency 3 --rate 12.5 --workers http://a:1 b:2 \
             --model iris --distinct 4 --shape 2,4 --warmup 5 --timeout 250ms --seed 6 \
             --form binary --constant mask=1 --slo 50ms",
        )
        .unwrap();
        assert_eq!(config.target.to_string(), "http://localhost:9000");
        assert_eq!(config.concurrency.get(), 3);
        assert_eq!(config.schedule, Schedule::Open { rate: 12.5 });
        let observed = config.observe.unwrap();
        let observed: Vec<_> = observed.iter().map(ToString::to_string).collect();
        assert_eq!(observed, ["http://a:1", "http://b:2"]);
        assert_eq!(config.model.unwrap().as_str(), "iris");
        assert_eq!(config.workload.distinct, Some(4));
        assert_eq!(config.workload.shape, Some([2, 4].into()));
        assert_eq!(config.workload.form, Some(Form::Binary));
        assert_eq!(config.workload.constants["mask"], 1.0);
        assert_eq!((config.warm_up, config.workload.seed), (5, 6));
        assert_eq!(config.timeout, Duration::from_millis(250));
        assert_eq!(config.service_level, Some(Duration::from_millis(50)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_was_expected() {
        for (line, message) in [
            ("--rate 0", "expected a rate above zero"),
            ("--rate fast", "expected requests per second"),
            ("--timeout 0s", "expected a time above zero"),
            ("--duration soon", "expected a time such as 30s"),
            ("--shape 1,x", "expected sizes such as 1,3,224,224"),
            ("--form xml", "expected `plain` or `binary`"),
            ("--constant mask", "expected a text such as mask=1"),
            ("--concurrency 0", "--concurrency"),
            ("--gateway https://h", "TLS is not supported"),
            ("--no-stats --workers a:1", "cannot be used with"),
            ("--cache-test --duration 1s", "cannot be used with"),
        ] {
            let error = config(line).unwrap_err();
            assert!(error.contains(message), "{line}: {error}");
        }
        assert!(config("--no-stats").unwrap().observe.is_none());
    }
}
