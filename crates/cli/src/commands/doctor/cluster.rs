//! Judges what the nodes tell of themselves and of each other: gateway, breakers, workers, and
//! whether all mean the same by a model.

use std::collections::BTreeMap;
use std::time::Duration;

use bytesize::ByteSize;
use inferring_protocol::rest::documents::{BreakerDocument, EndpointDocument, GatewayStats};
use inferring_types::{BreakerState, ContentDigest, WorkerStatus};

use super::check::{Check, Kind};
use super::facts::{Configuration, Facts, GatewayState, NamedBy, Node, Port, Workers};
use super::local::explain;

/// The checks of the nodes.
pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![gateway(&facts.gateway)];
    if let Ok(state) = &facts.gateway.state {
        checks.extend(breakers(state, &facts.configuration));
        checks.extend(state.stats.workers.iter().filter_map(ejected));
    }
    checks.extend(workers(&facts.workers));
    checks.extend(agreement(facts));
    checks
}

fn gateway(node: &Node<GatewayState>) -> Check {
    let finding = Kind::Gateway.of(&node.address);
    let state = match &node.state {
        Ok(state) => state,
        Err(_) if node.port == Port::Silent => {
            return finding.skipped("nobody listens on its port", None);
        }
        Err(problem) => {
            let start = "start it: inferring gateway WORKER.. or inferring serve MODEL.onnx";
            let (reason, next_step) = explain(node, problem, start);
            return finding.fail(reason, next_step);
        }
    };
    let stats = &state.stats;
    let reachable =
        format!("{} of {} workers reachable", stats.reachable_workers, stats.total_workers);
    let lost: Vec<_> = stats.workers.iter().filter(|worker| !worker.reachable).map(lost).collect();
    let models = format!("models: {}", stats.models.join(", "));
    if !state.ready {
        let (why, next_step) = match stats.reachable_workers {
            0 => (lost.join("; "), "bring a worker back: see below"),
            _ => ("it is stopping".to_owned(), "start it again"),
        };
        return finding.fail(format!("not ready, {reachable}: {why}"), next_step);
    }
    if !lost.is_empty() {
        let next_step = "bring it back: a probe finds it within a second or two; its share is \
                         answered by the others meanwhile";
        return finding.warn(format!("ready, {reachable}: {}", lost.join("; ")), next_step);
    }
    let GatewayStats { total_requests, errors, .. } = stats;
    finding
        .ok(format!("ready, {reachable}, {models}, requests: {total_requests}, errors: {errors}"))
}

fn lost(worker: &EndpointDocument) -> String {
    let EndpointDocument { node, address, last_probe_error, .. } = worker;
    let name = if node == address { node.clone() } else { format!("{node} ({address})") };
    match last_probe_error {
        Some(error) => format!("{name}: {error}"),
        None => name,
    }
}

fn breakers(state: &GatewayState, configuration: &Configuration) -> Vec<Check> {
    let stats = &state.stats;
    let closed = BreakerState::Closed.name();
    let open: Vec<_> = stats.circuit_breakers.iter().filter(|b| b.state != closed).collect();
    if open.is_empty() {
        let all = format!("all {} are {closed}", stats.circuit_breakers.len());
        return vec![Kind::Breaker.at_all().ok(all)];
    }
    let worker_of =
        |breaker: &BreakerDocument| stats.workers.iter().find(|worker| worker.node == breaker.node);
    open.into_iter().map(|it| breaker(it, worker_of(it), configuration)).collect()
}

/// Judges a breaker that is not closed: why, and when it heals.
fn breaker(
    breaker: &BreakerDocument,
    worker: Option<&EndpointDocument>,
    configuration: &Configuration,
) -> Check {
    let BreakerDocument { node, state, successes, .. } = breaker;
    let probe_error = worker.filter(|worker| !worker.reachable);
    let probe_error = probe_error.map(|worker| {
        let error = worker.last_probe_error.as_deref().unwrap_or("it was not reached yet");
        format!("; its probe fails: {error}")
    });
    let opened_by = match &breaker.opened_by {
        Some(cause) => format!("opened by {cause}"),
        None => format!("after {} failures in a row", breaker.failures),
    };
    let reason = format!("{state}, {opened_by}{}", probe_error.as_deref().unwrap_or(""));
    // The gateway does not tell its own settings.
    let needed = configuration.breaker.successes_to_close;
    let interval = configuration.probe.interval;
    let next_step = if probe_error.is_some() {
        format!(
            "bring the worker back: once a probe (every {interval:?} by these settings) reaches it, \
             trial requests go to it, and {needed} that succeed close the breaker"
        )
    } else if *state == BreakerState::HalfOpen.name() {
        format!("it heals by itself: {successes} of {needed} trial requests have succeeded")
    } else {
        let wait = match breaker.trial_in_seconds {
            Some(seconds) => format!("in {seconds:.0} s"),
            None => "when its time-out is over".to_owned(),
        };
        format!(
            "it heals by itself: {wait} trial requests go through, and {needed} that succeed close \
             it; the worker's log tells why it failed"
        )
    };
    Kind::Breaker.of(node).warn(reason, next_step)
}

/// Tells of a worker that the gateway leaves alone for a while, if it does.
fn ejected(worker: &EndpointDocument) -> Option<Check> {
    let ejected = worker.ejected.as_ref()?;
    let reason = format!("left alone: {} (for the {}. time)", ejected.reason, worker.ejections);
    let next_step = format!(
        "see what ails its machine; it is asked again in {:.0} s, and left alone for longer if it \
         does no better",
        ejected.returns_in_seconds,
    );
    Some(Kind::Breaker.of(&worker.node).warn(reason, next_step))
}

fn workers(workers: &Workers) -> Vec<Check> {
    let mut checks = Vec::new();
    if workers.in_process > 0 {
        let reason = format!(
            "{} run inside the gateway's process and have no address of their own: the gateway \
             speaks for them",
            workers.in_process,
        );
        checks.push(Kind::Worker.at_all().skipped(reason, None));
    } else if workers.nodes.is_empty() {
        let reason = match workers.named_by {
            NamedBy::Gateway => "the gateway has none",
            _ => "none named, no gateway to ask for them, and nobody on ports 8001 to 8003",
        };
        let next_step = "name them: --workers http://HOST:PORT ..";
        checks.push(Kind::Worker.at_all().skipped(reason, Some(next_step)));
    }
    checks.extend(workers.nodes.iter().map(worker));
    checks
}

fn worker(node: &Node<WorkerStatus>) -> Check {
    let finding = Kind::Worker.of(&node.address);
    let status = match &node.state {
        Ok(status) => status,
        Err(_) if node.port == Port::Silent => {
            return finding.skipped("nobody listens on its port", None);
        }
        Err(problem) => {
            let start = format!("start it: inferring worker MODEL.onnx --listen {}", node.address);
            let (reason, next_step) = explain(node, problem, &start);
            return finding.fail(reason, next_step);
        }
    };
    if status.loading {
        let next_step = "wait until it has: its log tells of each model";
        return finding.warn(format!("{} is still loading its models", status.id), next_step);
    }
    if !status.ready {
        let next_step = "wait until it has ended, and start it again";
        return finding.fail(format!("{} answers, but takes no requests", status.id), next_step);
    }
    let models = status.models.iter().map(|model| {
        let provider = model.device.provider.trim_end_matches("ExecutionProvider");
        format!("{} on {provider}", model.metadata.name)
    });
    let memory = match status.resident_memory_bytes {
        Some(bytes) => format!("{} of memory", ByteSize::b(bytes).display().iec()),
        None => "memory unknown".to_owned(),
    };
    let uptime = Duration::from_secs(status.uptime.as_secs());
    finding.ok(format!(
        "{} ready for {}, {}, {}, {memory}",
        status.id,
        humantime::format_duration(uptime),
        models.collect::<Vec<_>>().join(", "),
        cache(status),
    ))
}

fn cache(status: &WorkerStatus) -> String {
    let cache = status.cache;
    let without_run = cache.hits + cache.joined;
    let lookups = without_run + cache.misses;
    if lookups == 0 {
        return "cache not asked yet".to_owned();
    }
    format!("cache hit rate {:.1}% of {lookups}", 100.0 * without_run as f64 / lookups as f64)
}

/// By model, who serves which file under that name.
type Served<'a> = BTreeMap<&'a str, Vec<(ContentDigest, String)>>;

fn agreement(facts: &Facts) -> Vec<Check> {
    let finding = Kind::Agreement.of("models");
    let workers: Vec<_> = facts.workers.nodes.iter().filter_map(known).collect();
    if workers.is_empty() {
        return vec![finding.skipped("no worker to compare with told its models", None)];
    }
    let mut served = Served::new();
    for (name, status) in &workers {
        for model in &status.models {
            let entry = served.entry(model.metadata.name.as_str()).or_default();
            entry.push((model.metadata.digest, name.clone()));
        }
    }
    let gateway = facts.gateway.state.as_ref().ok();
    let listed: Served<'_> = gateway
        .iter()
        .flat_map(|state| &state.models)
        .map(|model| (model.name.as_str(), vec![(model.digest, "the gateway".to_owned())]))
        .collect();

    let mut conflicts = Vec::new();
    let mut gaps = Vec::new();
    for (model, by_workers) in &served {
        let all: Vec<_> =
            by_workers.iter().chain(listed.get(model).into_iter().flatten()).collect();
        if all.iter().any(|(digest, _)| *digest != all[0].0) {
            let who = all.iter().map(|(digest, who)| format!("{} at {who}", short(digest)));
            conflicts.push(format!("`{model}` is {}", who.collect::<Vec<_>>().join(", ")));
        }
        let lacks = |name: &String| !by_workers.iter().any(|(_, who)| who == name);
        let lacking: Vec<_> = workers.iter().map(|(name, _)| name).filter(|n| lacks(n)).collect();
        for who in lacking {
            gaps.push(format!("`{model}` is missing at {who}"));
        }
        if gateway.is_some() && !listed.contains_key(model) {
            gaps.push(format!("`{model}` is missing at the gateway"));
        }
    }
    let only_listed = listed.keys().filter(|model| !served.contains_key(**model));
    gaps.extend(only_listed.map(|model| format!("`{model}` is at the gateway alone")));

    vec![if !conflicts.is_empty() {
        let next_step = "give all workers the same file: until then an answer depends on which \
                         of them is asked";
        finding.fail(conflicts.join("; "), next_step)
    } else if !gaps.is_empty() {
        let next_step = "start all workers with the same models; a gateway learns of them within \
                         a second or two";
        finding.warn(gaps.join("; "), next_step)
    } else {
        finding.ok(described(&served, workers.len(), gateway.is_some()))
    }]
}

fn known(node: &Node<WorkerStatus>) -> Option<(String, &WorkerStatus)> {
    let state = node.state.as_ref().ok();
    Some((node.address.to_string(), state.filter(|status| !status.loading)?))
}

fn described(served: &Served<'_>, workers: usize, with_gateway: bool) -> String {
    let models = served.iter().map(|(name, by)| format!("{name} ({})", short(&by[0].0)));
    let models = models.collect::<Vec<_>>().join(", ");
    let who = match (workers, with_gateway) {
        (1, false) => return format!("1 worker serves {models}; there is none to compare with"),
        (1, true) => "the gateway and 1 worker serve".to_owned(),
        (workers, false) => format!("{workers} workers serve"),
        (workers, true) => format!("the gateway and {workers} workers serve"),
    };
    format!("{who} the same: {models}")
}

/// Enough of a digest to tell files apart by eye.
fn short(digest: &ContentDigest) -> String {
    digest.to_string().chars().take(12).collect()
}
