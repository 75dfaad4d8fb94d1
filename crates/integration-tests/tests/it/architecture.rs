//! What the house's plan says of its crates and its program, held against what is built.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use goblin::elf::Elf;
use inferring_integration_tests::models::repository;
use serde_json::Value;

use crate::PROGRAM;

/// Which of our crates each of our crates may name. Arrows point down only.
const ALLOWED: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("policy", &["types"]),
    ("protocol", &["types"]),
    ("backend", &["types"]),
    ("repository", &["types"]),
    ("worker", &["backend", "policy", "repository", "types"]),
    ("gateway", &["policy", "types"]),
    ("client", &["protocol", "types"]),
    ("server", &["protocol", "types"]),
    ("loadgen", &["client", "protocol", "types"]),
    (
        "cli",
        &[
            "backend",
            "client",
            "gateway",
            "loadgen",
            "policy",
            "protocol",
            "repository",
            "server",
            "types",
            "worker",
        ],
    ),
    ("integration-tests", &["backend", "types"]),
    ("fuzz", &["protocol", "repository", "types"]),
    ("lockstep", &[]),
    ("worker-simulated", &["backend", "lockstep", "policy", "repository", "types"]),
    (
        "simulation",
        &[
            "backend",
            "gateway",
            "lockstep",
            "policy",
            "protocol",
            "repository",
            "types",
            "worker-simulated",
        ],
    ),
];

/// Which of our crates may name crates from elsewhere that stand for a part of the system.
const GUARDED: &[(&str, &[&str])] = &[
    ("ort", &["backend"]),
    ("libloading", &["backend"]),
    ("http", &["protocol", "server", "client", "loadgen", "cli"]),
    ("http-body", &["protocol", "server", "client", "loadgen", "cli"]),
    ("http-body-util", &["protocol", "server", "client", "loadgen", "cli"]),
    ("hyper", &["server", "client", "loadgen", "cli"]),
    ("hyper-util", &["server", "client", "loadgen", "cli"]),
    (
        "serde_json",
        &["protocol", "repository", "server", "client", "loadgen", "cli", "integration-tests"],
    ),
    (
        "tokio",
        &[
            "worker",
            "gateway",
            "client",
            "server",
            "loadgen",
            "cli",
            "lockstep",
            "worker-simulated",
            "simulation",
        ],
    ),
    ("prost", &["protocol", "fuzz", "integration-tests"]),
    ("tonic", &["protocol", "server", "integration-tests"]),
    ("ureq", &["integration-tests"]),
];

/// A crate that is built into another one: tests may name what they like.
struct Arrow {
    from: String,
    to: String,
}

/// The dependencies of our crates, those of their tests left out, as cargo reads them.
fn arrows() -> Vec<Arrow> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut arrows = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let from = ours(package["name"].as_str().unwrap()).expect("the workspace holds ours only");
        for dependency in package["dependencies"].as_array().unwrap() {
            if dependency["kind"] != "dev" {
                let to = dependency["name"].as_str().unwrap().to_owned();
                arrows.push(Arrow { from: from.to_owned(), to });
            }
        }
    }
    arrows
}

/// The folder of one of our crates.
fn ours(package: &str) -> Option<&str> {
    package.strip_prefix("inferring-")
}

#[test]
fn dependencies_between_our_crates_point_down_only() {
    let arrows = arrows();
    for Arrow { from, to } in &arrows {
        let Some(to) = ours(to) else { continue };
        let (_, allowed) = ALLOWED
            .iter()
            .find(|(name, _)| name == from)
            .unwrap_or_else(|| panic!("`{from}` is new: give it a place in the plan"));
        assert!(allowed.contains(&to), "`{from}` must not name `{to}`");
    }
    // The plan speaks of crates that exist, all of them.
    let planned: BTreeSet<_> = ALLOWED.iter().map(|(name, _)| (*name).to_owned()).collect();
    let folders = fs::read_dir(repository().join("crates")).unwrap();
    let folders =
        folders.map(|folder| folder.unwrap()).filter(|f| f.path().join("Cargo.toml").is_file());
    let existing: BTreeSet<_> =
        folders.map(|folder| folder.file_name().into_string().unwrap()).collect();
    assert_eq!(planned, existing);
}

#[test]
fn what_stands_for_a_part_of_the_system_is_named_in_its_place_only() {
    for Arrow { from, to } in arrows() {
        let Some((_, allowed)) = GUARDED.iter().find(|(name, _)| *name == to) else { continue };
        assert!(allowed.contains(&from.as_str()), "`{from}` must not name `{to}`");
    }
}

/// The worker is compiled once more for simulations, by a manifest of its own.
#[test]
fn a_simulated_worker_is_made_of_what_the_worker_is_made_of() {
    let dependencies_of = |name: &str| -> BTreeSet<String> {
        arrows().into_iter().filter(|arrow| arrow.from == name).map(|arrow| arrow.to).collect()
    };
    let mut expected = dependencies_of("worker");
    expected.insert("inferring-lockstep".to_owned());
    assert_eq!(dependencies_of("worker-simulated"), expected);
}

/// Else a simulation would see two clocks, and threads that it knows nothing of.
#[test]
fn a_worker_goes_by_the_clock_and_the_threads_of_its_system_module() {
    const BANNED: &[&str] =
        &["Instant::now", ".elapsed()", "thread::spawn", "parking_lot::Condvar"];
    let source = repository().join("crates/worker/src");
    let mut folders = vec![source.clone()];
    let mut read = 0;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = entry.file_name().unwrap().to_str().unwrap();
            if entry.is_dir() && name != "tests" {
                folders.push(entry);
            } else if name.ends_with(".rs")
                && name != "tests.rs"
                && entry != source.join("system.rs")
            {
                let text = fs::read_to_string(&entry).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let found = BANNED.iter().find(|banned| code.contains(**banned));
                assert_eq!(found, None, "in {}", entry.display());
                read += 1;
            }
        }
    }
    assert!(read > 30, "{read} files");
}

#[test]
fn the_program_does_not_link_onnx_runtime() {
    let bytes = fs::read(PROGRAM).unwrap();
    let libraries = Elf::parse(&bytes).unwrap().libraries;
    assert!(libraries.contains(&"libc.so.6"), "{libraries:?}");
    assert!(!libraries.iter().any(|name| name.contains("onnxruntime")), "{libraries:?}");
}

#[test]
fn the_release_program_is_smaller_than_30_megabytes() {
    // Built by `make demo`; where it was not, the size of the unoptimised one says nothing.
    let release = Path::new(PROGRAM).parent().unwrap().join("../release/inferring");
    if let Ok(file) = fs::metadata(&release) {
        assert!(file.len() < 30_000_000, "{} has {} bytes", release.display(), file.len());
    }
}
