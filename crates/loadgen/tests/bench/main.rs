//! Whole benchmarks, over TCP.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod server;

use std::num::NonZeroUsize;
use std::time::Duration;

use inferring_loadgen::{
    BenchConfig, BenchError, Form, Interrupt, Limit, Phase, Progress, Report, Schedule, Target,
    Test, WorkloadConfig, bench,
};
use server::{Behaviour, Server};

fn config(target: &Target, test: Test) -> BenchConfig {
    BenchConfig {
        target: target.clone(),
        model: None,
        test,
        schedule: Schedule::Closed,
        concurrency: NonZeroUsize::new(4).unwrap(),
        workload: WorkloadConfig { seed: 1, ..WorkloadConfig::default() },
        warm_up: 0,
        timeout: Duration::from_secs(30),
        service_level: None,
        observe: Some(Vec::new()),
    }
}

fn load(requests: u64) -> Test {
    Test::Load(Limit::requests(requests))
}

async fn run(config: &BenchConfig) -> Result<Report, BenchError> {
    bench(config, Interrupt::on(std::future::pending()), &mut |_| {}).await
}

#[tokio::test]
async fn a_load_is_counted_alike_by_both_sides() {
    let server = Server::start(Behaviour { gateway: true, ..Behaviour::default() }).await;
    let worker = Server::start(Behaviour::default()).await;
    let config = BenchConfig {
        observe: Some(vec![worker.target.clone()]),
        ..config(&server.target, load(200))
    };
    let mut last = None;
    let report =
        bench(&config, Interrupt::on(std::future::pending()), &mut |progress: &Progress| {
            last = Some(*progress);
        })
        .await
        .unwrap();
    assert!(report.succeeded && !report.interrupted, "{report}");
    let round = report.load.as_ref().unwrap();
    assert_eq!((round.requests, round.succeeded, round.failed), (200, 200, 0));
    assert_eq!((server.state.requests(), server.state.inputs()), (200, 200));
    assert_eq!((report.workload.model.as_str(), report.workload.distinct_inputs), ("first", 200));

    let nodes: Vec<_> = round.workers.iter().map(|worker| worker.node_id.as_str()).collect();
    assert_eq!(nodes, ["worker_1", "worker_2"]);
    assert_eq!(round.workers.iter().map(|worker| worker.answers).sum::<u64>(), 200);
    assert!(round.latency_ms.unwrap().max > 0.0 && round.throughput_per_second > 0.0);
    assert!(round.generator.cpu_us_per_request > 0.0);

    let counted = report.server.as_ref().unwrap();
    let gateway = counted.gateway.as_ref().unwrap();
    assert_eq!((gateway.requests, gateway.workers[0].requests), (200, 200));
    assert_eq!((counted.workers.len(), counted.workers[0].requests), (1, 0));
    assert!(counted.problems.is_empty(), "{:?}", counted.problems);
    let (phase, planned) = (Phase::Load, Some(200));
    let expected = Progress { phase, done: 200, failed: 0, planned, duration: None };
    assert_eq!(last, Some(expected));
}

#[tokio::test]
async fn counters_count_from_the_start_of_the_measurement_and_a_warm_up_has_its_own_inputs() {
    let server = Server::start(Behaviour { cache: true, ..Behaviour::default() }).await;
    let model = Some("first".parse().unwrap());
    let mut config = BenchConfig { model, warm_up: 7, ..config(&server.target, load(100)) };
    config.workload.distinct = Some(20);
    let report = run(&config).await.unwrap();
    assert_eq!(report.path, "/models/first/infer");
    let round = report.load.unwrap();
    assert_eq!((round.succeeded, round.cached, round.cache_hit_rate), (100, 80, 0.8));
    assert_eq!((server.state.requests(), server.state.inputs()), (107, 27));
    let counted = report.server.unwrap();
    assert_eq!(counted.gateway, None);
    let worker = &counted.workers[0];
    assert_eq!((worker.requests, worker.cache_hits, worker.cache_misses), (100, 80, 20));
    assert_eq!((worker.batches, worker.mean_batch_size), (20, 1.0));
}

#[tokio::test]
async fn failed_requests_make_the_report_a_failure_with_the_servers_words() {
    let server = Server::start(Behaviour { refuses_some: true, ..Behaviour::default() }).await;
    let config = BenchConfig { observe: None, ..config(&server.target, load(100)) };
    let report = run(&config).await.unwrap();
    assert!(!report.succeeded && report.server.is_none());
    let round = report.load.unwrap();
    assert_eq!((round.succeeded, round.failed), (90, 10));
    let error = &round.errors[0];
    assert_eq!((error.status, error.count, &*error.sample), (Some(503), 10, "no healthy worker"));
}

#[tokio::test]
async fn an_open_loop_sends_what_is_due() {
    let server = Server::start(Behaviour::default()).await;
    let limit = Limit { requests: None, duration: Some(Duration::from_millis(200)) };
    let config = BenchConfig {
        schedule: Schedule::Open { rate: 500.0 },
        ..config(&server.target, Test::Load(limit))
    };
    let round = run(&config).await.unwrap().load.unwrap();
    assert_eq!((round.requests, round.succeeded), (100, 100));
    // The last is due 198 ms after the start, however fast the server is.
    assert!(round.elapsed_seconds >= 0.198, "{}", round.elapsed_seconds);
    assert!(round.lateness_ms.is_some());
}

#[tokio::test]
async fn the_cache_test_tells_a_cache_from_none_and_from_one_that_lies() {
    for (behaviour, passed, cached, different) in [
        (Behaviour { cache: true, ..Behaviour::default() }, true, 60, 0),
        (Behaviour::default(), false, 0, 0),
        (Behaviour { cache: true, unstable: true, ..Behaviour::default() }, false, 60, 60),
    ] {
        let server = Server::start(behaviour).await;
        let config = config(&server.target, Test::Cache { inputs: 60 });
        let report = run(&config).await.unwrap();
        let test = report.cache_test.as_ref().unwrap();
        assert_eq!((test.passed, report.succeeded), (passed, passed), "{report}");
        assert_eq!((test.misses.cached, test.hits.cached), (0, cached));
        assert_eq!((test.compared, test.different), (60, different));
        assert!(test.speed_up_mean.is_some() && report.load.is_none());
    }
}

#[tokio::test]
async fn a_second_cache_test_with_the_same_inputs_says_that_they_were_known() {
    let server = Server::start(Behaviour { cache: true, ..Behaviour::default() }).await;
    let config = config(&server.target, Test::Cache { inputs: 10 });
    assert!(run(&config).await.unwrap().succeeded);
    let second = run(&config).await.unwrap().cache_test.unwrap();
    assert!(second.findings[0].contains("use another seed"), "{:?}", second.findings);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_the_reason() {
    // Bound and dropped at once: nobody listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = free.to_string().parse().unwrap();
    let error = run(&config(&target, load(1))).await.unwrap_err();
    let BenchError::Unreachable { reason, .. } = &error else { panic!("{error:?}") };
    assert!(reason.contains("refused"), "{error}");
}

#[tokio::test]
async fn what_the_server_says_about_a_model_decides() {
    let server = Server::start(Behaviour { two_inputs: true, ..Behaviour::default() }).await;
    let mut plain = config(&server.target, load(1));
    plain.workload.form = Some(Form::Plain);
    let error = run(&plain).await.unwrap_err();
    assert!(matches!(error, BenchError::Workload(_)), "{error:?}");

    let unknown =
        BenchConfig { model: Some("unknown".parse().unwrap()), ..config(&server.target, load(1)) };
    let error = run(&unknown).await.unwrap_err().to_string();
    assert!(error.contains("there is no /v2/models/unknown"), "{error}");
}

#[tokio::test]
async fn a_worker_whose_counters_cannot_be_read_is_a_remark_and_no_failure() {
    let server = Server::start(Behaviour { gateway: true, ..Behaviour::default() }).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let observe = Some(vec![free.to_string().parse().unwrap()]);
    let report = run(&BenchConfig { observe, ..config(&server.target, load(5)) }).await.unwrap();
    assert!(report.succeeded);
    let problems = report.server.unwrap().problems;
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("refused"), "{problems:?}");
}

#[tokio::test]
async fn an_interrupt_during_a_load_still_reports() {
    let server = Server::start(Behaviour::default()).await;
    let endless = Test::Load(Limit { requests: None, duration: Some(Duration::from_secs(3600)) });
    let (raise, raised) = tokio::sync::oneshot::channel::<()>();
    let mut raise = Some(raise);
    let interrupt = Interrupt::on(async move {
        raised.await.expect("raised below");
    });
    let report = bench(&config(&server.target, endless), interrupt, &mut |progress| {
        if progress.done > 0 {
            raise.take().map(|raise| raise.send(()));
        }
    })
    .await
    .unwrap();
    assert!(report.interrupted);
    let round = report.load.unwrap();
    assert!(round.succeeded > 0);
    assert_eq!(round.requests, round.succeeded + round.failed + round.abandoned);
}
