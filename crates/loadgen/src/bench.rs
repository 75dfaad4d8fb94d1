//! A whole benchmark: learn the model, make inputs, send load, report.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use inferring_types::ModelName;

use crate::alarm::Alarm;
use crate::connection::Session;
use crate::fetch::{self, FetchError};
use crate::observe::{Observation, ServerReport, ratio};
use crate::progress::{Phase, Progress};
use crate::report::{CacheTestReport, Report, RoundReport, SettingsReport, WorkloadReport};
use crate::run::{Endpoint, Generator, Interrupt, Measured, Round};
use crate::schedule::{Limit, Schedule};
use crate::target::{Target, TcpConnector};
use crate::workload::{Workload, WorkloadConfig, WorkloadError};

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct BenchConfig {
    /// The server: a gateway or a worker.
    pub target: Target,
    /// The model; the server's default one where none is named.
    pub model: Option<ModelName>,
    /// The load, or the cache test.
    pub test: Test,
    /// When requests are sent.
    pub schedule: Schedule,
    /// Connections, each with at most one request under way.
    pub concurrency: NonZeroUsize,
    /// The inputs.
    pub workload: WorkloadConfig,
    /// Requests sent before the measurement, with inputs of their own.
    pub warm_up: u64,
    /// How long a request may take.
    pub timeout: Duration,
    /// How long an answer may take to be of use; what comes later is no goodput.
    pub service_level: Option<Duration>,
    /// Workers whose counters are read besides the target's; `None` to read nobody's.
    pub observe: Option<Vec<Target>>,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Load until a bound is reached.
    Load(Limit),
    /// So many inputs twice: see [`CacheTestReport`].
    Cache {
        /// Different inputs; the workload's own number of them is not used.
        inputs: u64,
    },
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The server gave no answer at all.
    #[error("{target} cannot be reached: {reason}")]
    Unreachable {
        /// The server.
        target: Target,
        /// What happened instead.
        reason: String,
    },
    /// The server answered, but did not describe the model.
    #[error("{target} does not describe the model to ask: {reason}")]
    NoModel {
        /// The server.
        target: Target,
        /// In its own words where it sent some.
        reason: String,
    },
    /// The model takes no such input.
    #[error("no inputs can be made")]
    Workload(#[from] WorkloadError),
    /// It was interrupted before the measurement began.
    #[error("interrupted before the measurement began")]
    Interrupted,
}

/// Measures, and tells `watch` how far it is.
///
/// # Errors
/// [`BenchError`] where nothing could be measured. Requests that fail are no error here: the
/// report counts them.
pub async fn bench(
    config: &BenchConfig,
    mut interrupt: Interrupt,
    watch: &mut (dyn FnMut(&Progress) + Send),
) -> Result<Report, BenchError> {
    let connector = TcpConnector::resolve(&config.target)
        .await
        .map_err(|error| config.unreachable(error.to_string()))?;
    let workload = config.workload(&connector).await?;
    let path = workload.form().path(config.model.as_ref(), workload.model());
    let uri: Uri = path.parse().expect("a model's name is safe in a path");
    let concurrency = config.concurrency.get();
    let timeout = config.timeout;
    let endpoint = Endpoint::new(uri, workload.form(), workload.json_length(), timeout);
    let mut generator = Generator::connect(&connector, endpoint, concurrency, Alarm::exact)
        .await
        .map_err(|failure| config.unreachable(failure.message))?;

    let mut stage = Stage { generator: &mut generator, interrupt: &mut interrupt, watch };
    if config.warm_up > 0 {
        let limit = Limit::requests(config.warm_up);
        let round = Round {
            bodies: Arc::clone(workload.warm_up()),
            schedule: Schedule::Closed,
            limit,
            keep_outputs: false,
        };
        stage.run(Phase::WarmUp, round).await;
        if stage.interrupt.is_raised() {
            return Err(BenchError::Interrupted);
        }
    }
    let before = config.observation().await;
    let (load, cache_test, limit) = match config.test {
        Test::Load(limit) => {
            let round = config.round(&workload, limit, false);
            let measured = stage.run(Phase::Load, round).await;
            (Some(RoundReport::new(&measured, config.service_level)), None, limit)
        }
        Test::Cache { inputs } => {
            let limit = Limit::requests(inputs);
            let first = stage.run(Phase::CacheMisses, config.round(&workload, limit, true)).await;
            if stage.interrupt.is_raised() {
                return Err(BenchError::Interrupted);
            }
            let second = stage.run(Phase::CacheHits, config.round(&workload, limit, true)).await;
            (None, Some(CacheTestReport::new(inputs, &first, &second)), limit)
        }
    };
    let after = config.observation().await;

    let interrupted = interrupt.is_raised();
    let all_answered = |round: &RoundReport| round.succeeded == round.requests;
    let succeeded = load.iter().all(all_answered) && cache_test.iter().all(|test| test.passed);
    let settings = SettingsReport::new(
        config.schedule,
        limit,
        concurrency,
        timeout,
        config.service_level,
        config.warm_up,
    );
    Ok(Report {
        target: config.target.to_string(),
        path,
        workload: WorkloadReport::new(&workload, config.workload.seed),
        notes: notes(&load, &settings),
        settings,
        server: after.zip(before).map(|(after, before)| -> ServerReport { after.since(&before) }),
        interrupted,
        succeeded,
        load,
        cache_test,
    })
}

impl BenchConfig {
    async fn workload(&self, connector: &TcpConnector) -> Result<Workload, BenchError> {
        let mut session = Session::new(connector.clone());
        let timeout = self.question_timeout();
        let model =
            fetch::model(&mut session, self.model.as_ref(), timeout).await.map_err(|error| {
                match error {
                    FetchError::Unanswered(failure) => self.unreachable(failure.message),
                    FetchError::Refused(reason) => {
                        BenchError::NoModel { target: self.target.clone(), reason }
                    }
                }
            })?;
        let (config, requests) = match self.test {
            Test::Load(limit) => (self.workload.clone(), limit.requests_due(self.schedule)),
            Test::Cache { inputs } => {
                (WorkloadConfig { distinct: Some(inputs), ..self.workload.clone() }, None)
            }
        };
        Ok(Workload::new(&model, &config, requests, self.warm_up)?)
    }

    fn round(&self, workload: &Workload, limit: Limit, keep_outputs: bool) -> Round {
        let bodies = Arc::clone(workload.measured());
        Round { bodies, schedule: self.schedule, limit, keep_outputs }
    }

    async fn observation(&self) -> Option<Observation> {
        let workers = self.observe.as_ref()?;
        Some(Observation::take(&self.target, workers, self.question_timeout()).await)
    }

    /// How long a server may take to tell of itself: that is not what is measured.
    fn question_timeout(&self) -> Duration {
        const SHORTEST: Duration = Duration::from_secs(5);
        self.timeout.max(SHORTEST)
    }

    fn unreachable(&self, reason: String) -> BenchError {
        BenchError::Unreachable { target: self.target.clone(), reason }
    }
}

/// Where rounds are run.
struct Stage<'a> {
    generator: &'a mut Generator<TcpConnector>,
    interrupt: &'a mut Interrupt,
    watch: &'a mut (dyn FnMut(&Progress) + Send),
}

impl Stage<'_> {
    async fn run(&mut self, phase: Phase, round: Round) -> Measured {
        let Limit { requests: planned, duration } = round.limit;
        let watch = &mut *self.watch;
        let mut watch = move |tally: &crate::tally::Tally| {
            let (done, failed) = (tally.done(), tally.failed());
            watch(&Progress { phase, done, failed, planned, duration });
        };
        self.generator.run(round, self.interrupt, &mut watch).await
    }
}

/// A generator that sends this late in one of a hundred cases distorts what it measures.
const LATE_MS: f64 = 1.0;

/// What a reader of the figures must know.
fn notes(load: &Option<RoundReport>, settings: &SettingsReport) -> Vec<String> {
    let mut notes = Vec::new();
    let Some(load) = load else { return notes };
    match (load.failed, load.refused) {
        (0, 0) => {}
        (0, _) => notes.push("refused requests are not among the latencies".to_owned()),
        _ => notes.push("failed requests are not among the latencies".to_owned()),
    }
    let backlog = ratio(load.backlogged, load.requests);
    let late = load.lateness_ms.is_some_and(|lateness| lateness.p99 > LATE_MS);
    if backlog > 0.01 {
        notes.push(format!(
            "{:.1} % of the requests were due while all {} connections were busy: the server does \
             not keep up with the rate, or needs more connections (the wait is among the latencies)",
            backlog * 100.0,
            settings.concurrency,
        ));
    } else if late {
        notes.push(
            "requests were sent late although connections were free: the generator's machine is \
             too busy, and the latencies are in part its own"
                .to_owned(),
        );
    }
    notes
}
