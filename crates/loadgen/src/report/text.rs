//! The report as people read it.

use std::fmt::{self, Write};

use crate::observe::ratio;

use super::{
    CacheTestReport, InputReport, LatencyReport, Mode, Report, RoundReport, ServerReport,
    SettingsReport,
};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workload = &self.workload;
        writeln!(
            f,
            "{}{}: model {}, {}, {} of {} bytes (seed {})",
            self.target,
            self.path,
            workload.model,
            inputs(&workload.inputs),
            counted(workload.distinct_inputs, "different input"),
            grouped(workload.mean_body_bytes),
            workload.seed,
        )?;
        writeln!(f, "{}", self.settings)?;
        if self.interrupted {
            writeln!(f, "interrupted: the figures stand for what was done until then")?;
        }
        if let Some(load) = &self.load {
            write!(f, "\n{load}")?;
            latencies(
                f,
                &[
                    ("latency", load.latency_ms),
                    ("refused", load.refusal_latency_ms),
                    ("sent late", load.lateness_ms),
                ],
            )?;
            answers(f, load)?;
        }
        if let Some(cache_test) = &self.cache_test {
            write!(f, "{cache_test}")?;
        }
        if let Some(server) = &self.server {
            write!(f, "{server}")?;
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
            self.notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        }
        Ok(())
    }
}

fn inputs(inputs: &[InputReport]) -> String {
    let one = |input: &InputReport| match inputs {
        [_] => format!("{} {:?}", input.datatype, input.shape),
        _ => format!("{} {} {:?}", input.name, input.datatype, input.shape),
    };
    inputs.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for SettingsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let connections = counted(self.concurrency as u64, "connection");
        match (self.mode, self.rate_per_second) {
            (Mode::Open, Some(rate)) => write!(
                f,
                "open loop, {} requests/s due, over {connections}; latency counts from the \
                 intended start",
                number(rate),
            ),
            _ => write!(f, "closed loop, {connections} back to back"),
        }?;
        match self.service_level_ms {
            Some(level) => write!(f, "; on time is within {level} ms"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for RoundReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "requests    {} in {:.2} s: {} succeeded, {} refused, {} failed",
            grouped(self.requests),
            self.elapsed_seconds,
            grouped(self.succeeded),
            grouped(self.refused),
            grouped(self.failed),
        )?;
        if self.abandoned > 0 {
            write!(f, ", {} given up", grouped(self.abandoned))?;
        }
        writeln!(f, "\nthroughput  {} requests/s", number(self.throughput_per_second))?;
        if let (Some(goodput), Some(on_time)) = (self.goodput_per_second, self.on_time) {
            let share = percent(ratio(on_time, self.requests));
            writeln!(f, "goodput     {} requests/s on time ({share} of all)", number(goodput))?;
        }
        writeln!(
            f,
            "cache       {} answers from it ({})",
            grouped(self.cached),
            percent(self.cache_hit_rate),
        )?;
        writeln!(
            f,
            "generator   {} µs of processor time per request",
            self.generator.cpu_us_per_request,
        )?;
        if self.backlogged > 0 {
            let backlog = grouped(self.backlogged);
            writeln!(f, "backlog     {backlog} due while all connections were busy")?;
        }
        if self.reconnects > 0 {
            writeln!(f, "reconnects  {}", grouped(self.reconnects))?;
        }
        if let Some(sample) = &self.refusal_sample {
            writeln!(f, "refused     {} x status 429: {sample}", grouped(self.refused))?;
        }
        for error in &self.errors {
            let status = error.status.map(|status| format!(" {status}")).unwrap_or_default();
            writeln!(
                f,
                "error       {} x {}{status}: {}",
                grouped(error.count),
                error.kind,
                error.sample,
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for CacheTestReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nfirst round: {} inputs, to be computed\n{}", self.inputs, self.misses)?;
        write!(f, "second round: the same again, to come from the cache\n{}", self.hits)?;
        latencies(f, &[("computed", self.misses.latency_ms), ("cached", self.hits.latency_ms)])?;
        answers(f, &self.hits)?;
        writeln!(f)?;
        if let (Some(mean), Some(p50)) = (self.speed_up_mean, self.speed_up_p50) {
            writeln!(f, "The cached round was {mean} times as fast (mean; median {p50} times).")?;
        }
        if self.passed {
            return writeln!(
                f,
                "Cache test passed: all {} outputs are identical byte for byte, and all answers of \
                 the second round came from the cache.",
                self.compared,
            );
        }
        writeln!(f, "Cache test FAILED ({} outputs compared):", self.compared)?;
        self.findings.iter().try_for_each(|finding| writeln!(f, "- {finding}"))
    }
}

impl fmt::Display for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(gateway) = &self.gateway {
            writeln!(
                f,
                "\nthe gateway counted {} requests, {} errors, {} failovers",
                grouped(gateway.requests),
                grouped(gateway.errors),
                grouped(gateway.failovers),
            )?;
            let rows = gateway.workers.iter().map(|worker| {
                vec![
                    worker.node.clone(),
                    worker.address.clone(),
                    grouped(worker.requests),
                    percent(worker.share),
                    grouped(worker.failures),
                    worker.breaker.clone(),
                ]
            });
            table(f, &["worker", "address", "tries", "share", "failed", "breaker"], 2, rows)?;
        }
        if !self.workers.is_empty() {
            writeln!(f, "\nthe workers counted")?;
            let rows = self.workers.iter().map(|worker| {
                let restarted = if worker.restarted { " (restarted)" } else { "" };
                vec![
                    format!("{}{restarted}", worker.node_id),
                    worker.url.clone(),
                    grouped(worker.requests),
                    grouped(worker.errors),
                    grouped(worker.cache_hits),
                    percent(worker.cache_hit_rate),
                    grouped(worker.batches),
                    format!("{:.2}", worker.mean_batch_size),
                ]
            });
            let titles =
                ["worker", "address", "requests", "errors", "hits", "rate", "runs", "rows/run"];
            table(f, &titles, 2, rows)?;
        }
        self.problems.iter().try_for_each(|problem| writeln!(f, "not counted: {problem}"))
    }
}

fn latencies(
    f: &mut fmt::Formatter<'_>,
    distributions: &[(&str, Option<LatencyReport>)],
) -> fmt::Result {
    let rows = distributions.iter().filter_map(|(name, latency)| {
        let LatencyReport { mean, min, p50, p90, p95, p99, p999, max } = latency.as_ref()?;
        let figures = [mean, min, p50, p90, p95, p99, p999, max];
        Some([(*name).to_owned()].into_iter().chain(figures.map(|ms| format!("{ms:.3}"))).collect())
    });
    writeln!(f)?;
    let titles = ["ms", "mean", "min", "p50", "p90", "p95", "p99", "p99.9", "max"];
    table(f, &titles, 1, rows)
}

fn answers(f: &mut fmt::Formatter<'_>, round: &RoundReport) -> fmt::Result {
    let rows = round.workers.iter().map(|worker| {
        vec![
            worker.node_id.clone(),
            grouped(worker.answers),
            percent(worker.share),
            grouped(worker.cached),
            percent(worker.cache_hit_rate),
            number(worker.mean_inference_time_us),
        ]
    });
    writeln!(f)?;
    table(f, &["answered by", "answers", "share", "cached", "rate", "mean µs there"], 1, rows)
}

/// Columns under titles: the first `texts` to the left, numbers to the right.
fn table(
    f: &mut fmt::Formatter<'_>,
    titles: &[&str],
    texts: usize,
    rows: impl Iterator<Item = Vec<String>>,
) -> fmt::Result {
    let mut lines = vec![titles.iter().map(|&title| title.to_owned()).collect::<Vec<_>>()];
    lines.extend(rows);
    if lines.len() == 1 {
        return Ok(());
    }
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<_> = (0..titles.len()).map(|column| width(column).unwrap_or(0)).collect();
    for line in &lines {
        let mut text = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            if column < texts {
                write!(text, "{gap}{cell:<width$}")?;
            } else {
                write!(text, "{gap}{cell:>width$}")?;
            }
        }
        writeln!(f, "{}", text.trim_end())?;
    }
    Ok(())
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A number without more digits than tell something.
fn number(number: f64) -> String {
    if number >= 100.0 { grouped(number.round() as u64) } else { format!("{number}") }
}

/// `1 connection`, `2 connections`.
fn counted(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", grouped(number))
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped() {
        for (given, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(given), text);
        }
    }
}
