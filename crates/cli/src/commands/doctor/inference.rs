//! Judges the one inference that was made: by each worker directly, through the gateway, and
//! whether all answered the same.

use http::StatusCode;
use inferring_types::{CacheOutcome, InferResponse, ModelMetadata};

use super::check::{Check, Kind};
use super::facts::{Facts, Node};
use super::trial::{Comparison, Refusal, Reply, Trial, compare};

/// The checks of the inference.
pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let (model, gateway, workers) = match &facts.trial {
        Trial::Made { model, gateway, workers } => (model, gateway, workers),
        Trial::NoModel => return not_made("nobody who serves a model answered", None),
        Trial::NoInput { reason } => {
            let reason = format!("no input can be made up: {reason}");
            return not_made(&reason, Some("ask with an input of your own: POST /infer"));
        }
    };
    let nodes = &facts.workers.nodes;
    let mut checks: Vec<_> = nodes
        .iter()
        .zip(workers)
        .map(|(node, reply)| direct(node, reply.as_ref(), model))
        .collect();
    if nodes.is_empty() {
        let reason = match facts.workers.in_process {
            0 => "no worker was found",
            _ => "the workers run inside the gateway's process",
        };
        checks.push(Kind::DirectInference.at_all().skipped(reason, None));
    }
    let answers: Vec<_> = nodes
        .iter()
        .zip(workers)
        .filter_map(|(node, reply)| {
            Some((node.address.to_string(), reply.as_ref()?.as_ref().ok()?))
        })
        .collect();
    checks.push(end_to_end(gateway.as_ref(), &answers));
    checks.extend(agreement(&answers));
    checks
}

fn not_made(reason: &str, next_step: Option<&str>) -> Vec<Check> {
    let kinds = [Kind::DirectInference, Kind::EndToEndInference];
    kinds.map(|kind| kind.at_all().skipped(reason, next_step)).into()
}

type Answer<'a> = (String, &'a InferResponse);

fn direct<S>(node: &Node<S>, reply: Option<&Reply>, model: &ModelMetadata) -> Check {
    let finding = Kind::DirectInference.of(&node.address);
    match reply {
        Some(Ok(response)) => finding.ok(described(response)),
        Some(Err(refusal)) => {
            let (reason, next_step) = explain(refusal);
            finding.fail(reason, next_step)
        }
        None if node.state.is_ok() => {
            let reason = format!("it serves no model `{}` like the first one's", model.name);
            finding.skipped(reason, None)
        }
        None => finding.skipped("it did not tell its models", None),
    }
}

fn end_to_end(gateway: Option<&Reply>, direct: &[Answer<'_>]) -> Check {
    let finding = Kind::EndToEndInference.at_all();
    let response = match gateway {
        Some(Ok(response)) => response,
        Some(Err(refusal)) => {
            let (reason, next_step) = explain(refusal);
            return finding.fail(reason, next_step);
        }
        None => return finding.skipped("no gateway that lists a model answered", None),
    };
    let described = described(response);
    if direct.is_empty() {
        return finding.ok(format!("{described}; there is no other answer to compare with"));
    }
    let compared = direct.iter().map(|(who, answer)| (who, compare(response, answer)));
    let mut rounded = None;
    for (who, comparison) in compared {
        match comparison {
            Comparison::Equal => {
                return finding.ok(format!("{described}; equal to that of {who}"));
            }
            Comparison::Rounded { difference } => rounded = rounded.or(Some((who, difference))),
            Comparison::Different => {}
        }
    }
    match rounded {
        Some((who, difference)) => finding
            .ok(format!("{described}; equal to that of {who} but for rounding ({difference:e})")),
        None => finding.fail(
            format!("{described}; no worker gave the same answer to the same input"),
            "see whether all workers run the same model; one with random operators differs each \
             time",
        ),
    }
}

/// Whether the workers' answers are the same; nothing where there are not two.
fn agreement(direct: &[Answer<'_>]) -> Option<Check> {
    let ((first, reference), others) = direct.split_first()?;
    if others.is_empty() {
        return None;
    }
    let finding = Kind::Agreement.of("answers");
    let mut largest: Option<f32> = None;
    for (who, answer) in others {
        match compare(reference, answer) {
            Comparison::Equal => {}
            Comparison::Rounded { difference } => {
                largest = Some(largest.unwrap_or(0.0).max(difference));
            }
            Comparison::Different => {
                return Some(finding.fail(
                    format!("{first} and {who} answer differently to the same input"),
                    "compare their ONNX Runtime and device (GET /health); a model with random \
                     operators differs each time",
                ));
            }
        }
    }
    Some(match largest {
        None => finding.ok(format!("{} workers gave equal answers", direct.len())),
        Some(difference) => finding.warn(
            format!(
                "{} workers gave answers equal but for rounding ({difference:e})",
                direct.len()
            ),
            "none where processors or devices differ; else compare their ONNX Runtime",
        ),
    })
}

fn described(response: &InferResponse) -> String {
    let outputs = response.outputs.iter().map(|output| {
        format!("{} {} {}", output.name, output.tensor.datatype(), output.tensor.shape())
    });
    let served = &response.served;
    let how = match served.cache {
        CacheOutcome::Computed => "computed",
        CacheOutcome::Hit => "from its cache",
        CacheOutcome::Joined => "computed for another request",
    };
    format!(
        "{} answered {} by {} in {:?}, {how}",
        response.model,
        outputs.collect::<Vec<_>>().join(", "),
        served.worker,
        served.inference_time,
    )
}

fn explain(refusal: &Refusal) -> (String, &'static str) {
    match refusal {
        Refusal::Http(error) => (
            error.to_string(),
            "see its log; a model that takes longer needs a longer --timeout here",
        ),
        Refusal::Status { status, message } if status.is_client_error() => (
            format!("refused with {status}: {message}"),
            "the input was made up from the model's own description: see what the message asks for",
        ),
        Refusal::Status { status: status @ StatusCode::GATEWAY_TIMEOUT, message } => (
            format!("failed with {status}: {message}"),
            "a worker that was asked hangs or is slow: see the workers; a model that takes longer \
             needs a longer --timeout here",
        ),
        Refusal::Status { status, message } => {
            (format!("failed with {status}: {message}"), "the log of that process has the reason")
        }
        Refusal::Malformed(reason) => {
            (reason.clone(), "see whether all nodes run the same version of inferring")
        }
    }
}
