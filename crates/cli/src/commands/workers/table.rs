//! Workers as people read them.

use std::fmt::Write;

use inferring_protocol::rest::admin::{WorkerDocument, WorkersDocument};

/// All workers in a table, and what there is to say of their list.
pub(super) fn all(document: &WorkersDocument) -> String {
    const HEADER: [&str; 7] =
        ["WORKER", "ADDRESS", "WEIGHT", "IN FLIGHT", "REQUESTS", "FAILURES", "STATE"];
    let row = |worker: &WorkerDocument| {
        [
            worker.id.clone(),
            worker.address.clone(),
            worker.weight.to_string(),
            worker.in_flight.to_string(),
            worker.requests.to_string(),
            worker.failures.to_string(),
            state(worker),
        ]
    };
    let rows: Vec<_> = std::iter::once(HEADER.map(str::to_owned))
        .chain(document.workers.iter().map(row))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..HEADER.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (index, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            // Texts to the left, numbers to the right.
            let written = match index {
                0 | 1 | 6 => write!(line, "{cell:<width$}  "),
                _ => write!(line, "{cell:>width$}  "),
            };
            written.expect("a text takes everything that is written to it");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let list = &document.membership;
    let (version, source, fingerprint) = (list.version, &list.source, &list.fingerprint);
    text += &format!("list {version} of {source}, fingerprint {fingerprint}\n");
    if let Some(error) = &list.error {
        text += &format!("the newest list is not in force: {error}\n");
    }
    if !document.ready {
        text += "the gateway itself takes no requests now\n";
    }
    text
}

/// One worker, a line for each thing that is known of it.
pub(super) fn one(worker: &WorkerDocument) -> String {
    let process = worker.process.as_deref().unwrap_or("unknown");
    let lines = [
        ("worker", worker.id.clone()),
        ("address", worker.address.clone()),
        ("weight", worker.weight.to_string()),
        ("state", state(worker)),
        ("process", process.to_owned()),
        ("in flight", worker.in_flight.to_string()),
        ("requests", worker.requests.to_string()),
        ("failures", worker.failures.to_string()),
    ];
    lines.map(|(name, value)| format!("{name:<11}{value}\n")).concat()
}

/// What comes first is what an operator has to know first.
fn state(worker: &WorkerDocument) -> String {
    let mut parts = Vec::new();
    if worker.draining {
        parts.push("draining".to_owned());
    }
    if !worker.reachable {
        let reason = worker.error.as_deref().unwrap_or("no health check yet");
        parts.push(format!("not asked: {reason}"));
    }
    if worker.breaker != "CLOSED" {
        parts.push(format!("breaker {}", worker.breaker.to_lowercase().replace('_', "-")));
    }
    if parts.is_empty() { "serving".to_owned() } else { parts.join(", ") }
}

#[cfg(test)]
mod tests {
    use inferring_protocol::rest::documents::MembershipDocument;

    use super::*;

    fn worker(number: u32) -> WorkerDocument {
        WorkerDocument {
            id: format!("worker_{number}"),
            address: format!("10.0.0.{number}:8001"),
            weight: 1.0,
            draining: false,
            reachable: true,
            error: None,
            breaker: "CLOSED".to_owned(),
            process: Some(format!("{number:016x}")),
            in_flight: 0,
            requests: 12_345,
            failures: 0,
            share: 0.25,
        }
    }

    #[test]
    fn a_fleet_in_which_much_is_going_on() {
        let document = WorkersDocument {
            ready: false,
            membership: MembershipDocument {
                version: 7,
                fingerprint: "0123456789abcdef".to_owned(),
                source: "`workers.toml`".to_owned(),
                age_seconds: 3.0,
                error: Some("`workers.toml` cannot be read".to_owned()),
                failures: 1,
            },
            workers: vec![
                worker(1),
                WorkerDocument { draining: true, weight: 0.5, in_flight: 17, ..worker(2) },
                WorkerDocument {
                    reachable: false,
                    error: Some("connection refused".to_owned()),
                    breaker: "HALF_OPEN".to_owned(),
                    failures: 5,
                    ..worker(3)
                },
            ],
        };
        insta::assert_snapshot!(all(&document), @"
        WORKER    ADDRESS        WEIGHT  IN FLIGHT  REQUESTS  FAILURES  STATE
        worker_1  10.0.0.1:8001       1          0     12345         0  serving
        worker_2  10.0.0.2:8001     0.5         17     12345         0  draining
        worker_3  10.0.0.3:8001       1          0     12345         5  not asked: connection refused, breaker half-open
        list 7 of `workers.toml`, fingerprint 0123456789abcdef
        the newest list is not in force: `workers.toml` cannot be read
        the gateway itself takes no requests now
        ");
        insta::assert_snapshot!(one(&document.workers[1]), @"
        worker     worker_2
        address    10.0.0.2:8001
        weight     0.5
        state      draining
        process    0000000000000002
        in flight  17
        requests   12345
        failures   0
        ");
    }
}
