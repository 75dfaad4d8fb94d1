//! Judges what this machine has: the library, the device, the settings, processes and ports.

use inferring_backend::ort::library::LibraryError;
use inferring_backend::ort::{Device, StartError};

use super::check::{Check, Kind};
use super::facts::{Engine, Facts, Node, Port, Problem};
use super::system::Process;
use crate::http::{Address, HttpError};

/// The checks of this machine.
pub(super) fn checks(facts: &Facts) -> Vec<Check> {
    let mut checks = vec![library(facts), device(&facts.engine), configuration(facts)];
    checks.extend(processes(facts));
    checks.push(port(&facts.gateway, GATEWAY_STARTS, facts.processes.as_deref().unwrap_or(&[])));
    for worker in &facts.workers.nodes {
        let id = worker.known_as.as_ref().map(|id| format!(" --id {id}")).unwrap_or_default();
        let start =
            format!("start it: inferring worker MODEL.onnx --listen {}{id}", worker.address);
        checks.push(port(worker, &start, &[]));
    }
    checks
}

const GATEWAY_STARTS: &str =
    "start one: `inferring serve MODEL.onnx`, or name the one to examine with --gateway";

fn library(facts: &Facts) -> Check {
    let finding = Kind::Library.at_all();
    let status = match &facts.engine {
        Ok(engine) => &engine.status,
        Err(error) => {
            let (reason, next_step) = no_library(error);
            return match facts.gateway.state {
                // Somebody serves models without it, and this machine may be no worker.
                Ok(_) => finding.warn(reason, format!("for workers on this machine: {next_step}")),
                Err(_) => finding.fail(reason, next_step),
            };
        }
    };
    let place = status.library.as_deref().unwrap_or("part of this program");
    let found_by = status.found_by.as_deref().unwrap_or("built in");
    finding.ok(format!("ONNX Runtime {} at {place} ({found_by})", status.version))
}

/// Why there is no ONNX Runtime, and what gets it.
fn no_library(error: &StartError) -> (String, &'static str) {
    let StartError::Library(error) = error else {
        return (error.to_string(), "try another build of it: --onnxruntime PATH");
    };
    match error {
        LibraryError::NotFound { looked_in } => (
            format!("ONNX Runtime is not installed; looked in {}", looked_in.join(", ")),
            "pip install onnxruntime (or, in a clone of the repository, scripts/fetch-onnxruntime)",
        ),
        LibraryError::Missing { path, found_by } => (
            format!("there is no library at `{}` ({found_by})", path.display()),
            "name the file libonnxruntime.so or its folder, or nothing to have it searched for",
        ),
        LibraryError::TooOld { .. } => (error.to_string(), "pip install --upgrade onnxruntime"),
        LibraryError::Unloadable { .. } | LibraryError::NotOnnxRuntime { .. } => {
            (error.to_string(), "pip install onnxruntime, or name another with --onnxruntime PATH")
        }
    }
}

fn device(engine: &Result<Engine, StartError>) -> Check {
    let finding = Kind::Device.at_all();
    let Ok(engine) = engine else {
        return finding.skipped("there is no ONNX Runtime to try devices with", None);
    };
    let asked = engine.asked;
    let device = match &engine.device {
        Ok(device) => device,
        Err(reason) => {
            let next_step = "mend what the reason names, or run with --device auto or --device cpu";
            return finding.fail(reason, next_step);
        }
    };
    let provider = &device.provider;
    match &device.fallback_reason {
        None if asked == Device::Cpu => finding.ok(format!("{provider}, as asked for")),
        None => finding.ok(format!("{provider}, proved by a run")),
        Some(reason) if engine.has_gpu => finding.warn(
            format!("{provider}, though an NVIDIA driver is at work here; not CUDA: {reason}"),
            "install a CUDA build (pip install onnxruntime-gpu) with what the reason names, \
             or settle it with --device cpu",
        ),
        Some(reason) => finding.ok(format!("{provider}; not CUDA: {reason}")),
    }
}

fn configuration(facts: &Facts) -> Check {
    let finding = Kind::Configuration.at_all();
    let configuration = &facts.configuration;
    if let Some(problem) = &configuration.problem {
        let next_step = "set it right; `inferring config show` prints every setting there is";
        return finding.fail(format!("{problem}; the checks below go by the defaults"), next_step);
    }
    finding.ok(match &configuration.file {
        Some(file) => format!("`{}` is valid", file.display()),
        None => "no file; defaults, environment and flags are valid".to_owned(),
    })
}

fn processes(facts: &Facts) -> Vec<Check> {
    let processes = match &facts.processes {
        Ok(processes) => processes,
        Err(reason) => {
            let reason = format!("this system does not show its processes: {reason}");
            return vec![Kind::Process.at_all().skipped(reason, None)];
        }
    };
    let finding = Kind::Process.at_all();
    if processes.is_empty() {
        return vec![if facts.gateway.state.is_ok() {
            finding.ok("no other inferring process here: what answers runs elsewhere")
        } else {
            finding.warn("no other inferring process runs here", GATEWAY_STARTS)
        }];
    }
    processes.iter().map(process).collect()
}

fn process(process: &Process) -> Check {
    let finding = Kind::Process.of(&process.pid);
    let command = match process.command.as_str() {
        "" => "inferring (its command line is hidden)",
        command => command,
    };
    if process.stopped {
        let next_step = format!("let it go on: kill -CONT {}", process.pid);
        return finding.warn(format!("is stopped: {command}"), next_step);
    }
    let mut listens: Vec<_> = process.listens.iter().map(ToString::to_string).collect();
    listens.dedup();
    finding.ok(match listens.is_empty() {
        true => command.to_owned(),
        false => format!("{command} (listens on {})", listens.join(", ")),
    })
}

/// Judges a port; `start` is what to do where nobody listens, `others` are processes that may
/// be what the user looked for.
fn port<S>(node: &Node<S>, start: &str, others: &[Process]) -> Check {
    let address = &node.address;
    let finding = Kind::Port.of(address);
    match &node.port {
        Port::Listening { owner: Some(owner), .. } => {
            let by = format!("{} (process {})", owner.name, owner.pid);
            let stranger = matches!(node.state, Err(Problem::Stranger(_) | Problem::Http(_)));
            if stranger && !owner.is_ours() {
                let next_step =
                    format!("stop it, or give another port with --listen: {address} is taken");
                return finding.fail(format!("{by} listens"), next_step);
            }
            finding.ok(format!("{by} listens"))
        }
        Port::Listening { owner: None, user } => {
            finding.ok(format!("a process of user {user} listens; which one is not shown to you"))
        }
        Port::Silent if node.state.is_ok() => {
            finding.ok("answers, from another network namespace: nobody listens in this one")
        }
        Port::Silent => finding.fail("nobody listens", instead(address, others, start)),
        Port::Elsewhere => finding.skipped("it belongs to another machine", None),
        Port::Unknown(reason) => finding.skipped(reason, None),
    }
}

/// What to do where nobody listens: one who runs a gateway on another port wants to know which.
fn instead(address: &Address, others: &[Process], start: &str) -> String {
    let gateway = others.iter().find(|process| {
        let mut words = process.command.split(' ').skip(1);
        words.any(|word| matches!(word, "serve" | "gateway"))
    });
    match gateway.and_then(|process| Some((process.pid, process.listens.first()?))) {
        Some((pid, listens)) => {
            format!("process {pid} listens on {listens} instead of {address}: --gateway {listens}")
        }
        None => start.to_owned(),
    }
}

/// Why a node's state is not known, and what to do; `start` where it is not there at all.
pub(super) fn explain<S>(node: &Node<S>, problem: &Problem, start: &str) -> (String, String) {
    let error = match problem {
        Problem::Http(error) => error,
        Problem::Stranger(what) => {
            return (what.clone(), format!("name another address than {}", node.address));
        }
    };
    let owner = match &node.port {
        Port::Listening { owner, .. } => owner.as_ref(),
        _ => None,
    };
    match (error, owner) {
        (HttpError::Timeout(_), Some(owner)) if owner.stopped => {
            let pid = owner.pid;
            (
                format!("{error}: process {pid} is stopped"),
                format!("let it go on: kill -CONT {pid}"),
            )
        }
        (HttpError::Timeout(_), Some(owner)) => {
            let next_step = format!(
                "it listens but hangs or is overloaded: look at its log and at process {}, or \
                 give it longer with --timeout",
                owner.pid,
            );
            (error.to_string(), next_step)
        }
        (HttpError::Timeout(_) | HttpError::Unconnected(_), None) => {
            let next_step = "see whether the machine runs and a firewall lets you through, or \
                             give it longer with --timeout";
            (error.to_string(), next_step.to_owned())
        }
        (HttpError::Refused, _) => (error.to_string(), start.to_owned()),
        (HttpError::Unresolved { .. }, _) => {
            (error.to_string(), "name the host as this machine knows it".to_owned())
        }
        (HttpError::Unconnected(_) | HttpError::Broken(_), _) => {
            (error.to_string(), format!("see what answers at {}", node.address))
        }
    }
}
