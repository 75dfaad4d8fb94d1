//! The table of faults, held against the sources: what it promises is tested.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use inferring_integration_tests::models::repository;

const TABLE: &str = "docs/reference/faults.md";

/// A number of the table, and the tests that stand behind it.
struct Row {
    number: u32,
    tests: Vec<String>,
}

fn rows() -> Vec<Row> {
    let text = fs::read_to_string(repository().join(TABLE)).unwrap();
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<_> = line.split(" | ").collect();
        let [number, _, tests, _] = cells[..] else { return None };
        let number = number.strip_prefix("| ")?.parse().ok()?;
        let tests = tests.split(", ").map(|test| test.trim_matches('`').to_owned()).collect();
        Some(Row { number, tests })
    });
    rows.collect()
}

/// Every function of our crates that is a test, as the table names it: `crate::file::function`.
fn tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let crates = repository().join("crates");
    for folder in fs::read_dir(crates).unwrap() {
        let folder = folder.unwrap();
        let name = folder.file_name().into_string().unwrap();
        for file in sources(&folder.path()) {
            let text = fs::read_to_string(&file).unwrap();
            let stem = module(&file);
            let lines: Vec<_> = text.lines().map(str::trim).collect();
            for pair in functions(&lines) {
                tests.insert(format!("{name}::{stem}::{pair}"));
            }
        }
    }
    tests
}

/// What a file is called: `mod.rs`, `tests.rs` and `main.rs` by their folder.
fn module(file: &Path) -> &str {
    fn stem(path: &Path) -> &str {
        path.file_stem().unwrap().to_str().unwrap()
    }
    match stem(file) {
        "mod" | "tests" | "main" => stem(file.parent().unwrap()),
        name => name,
    }
}

/// The names of functions that have an attribute of a test before them.
fn functions<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in lines {
        if line.starts_with("#[") {
            is_test |= ["#[test]", "#[tokio::test"].iter().any(|start| line.starts_with(start));
            continue;
        }
        if let Some(rest) = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")
            && let (true, Some((name, _))) = (is_test, rest.split_once('('))
        {
            found.push(name);
        }
        // Comments may stand between the two.
        is_test &= line.starts_with("//");
    }
    found
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("target") {
                files.extend(sources(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn every_test_that_the_table_names_exists() {
    let tests = tests();
    let rows = rows();
    assert!(rows.len() > 40, "{} rows", rows.len());
    let named = rows.iter().flat_map(|row| row.tests.iter().map(|test| (row.number, test)));
    let missing: Vec<_> = named.filter(|(_, test)| !tests.contains(*test)).collect();
    assert!(missing.is_empty(), "{TABLE} names tests that there are not: {missing:#?}");
}

#[test]
fn every_test_of_a_fault_is_in_the_table_under_its_number() {
    let mut by_number = BTreeMap::<u32, BTreeSet<String>>::new();
    for row in rows() {
        by_number.entry(row.number).or_default().extend(row.tests);
    }
    let missing: Vec<_> = tests()
        .into_iter()
        .filter(|test| {
            let name = test.rsplit("::").next().and_then(|name| name.strip_prefix("fault_"));
            let number = name.and_then(|name| name.split('_').next()?.parse().ok());
            number.is_some_and(|n: u32| !by_number.get(&n).is_some_and(|all| all.contains(test)))
        })
        .collect();
    assert!(missing.is_empty(), "{TABLE} does not name: {missing:#?}");
}

/// Deadlines, intervals and back-offs are measured by `Instant`, which no jump of the clock
/// moves. The time of day is told to people, and decides nothing.
#[test]
fn fault_47_no_decision_hangs_on_the_time_of_day() {
    /// Who asks for it, and why that decides nothing.
    const TOLD: &[&str] = &[
        // When a model last answered, for its statistics.
        "worker/src/statistics.rs",
    ];
    let crates = repository().join("crates");
    let mut asking = BTreeSet::new();
    for name in [
        "types",
        "policy",
        "protocol",
        "repository",
        "backend",
        "worker",
        "gateway",
        "client",
        "server",
        "cli",
    ] {
        for file in sources(&crates.join(name).join("src")) {
            let text = fs::read_to_string(&file).unwrap();
            if [
                "SystemTime::now",
                "UNIX_EPOCH.elapsed",
                "ClockId::Realtime",
                "Utc::now",
                "Local::now",
            ]
            .iter()
            .any(|call| text.contains(call))
            {
                asking.insert(file.strip_prefix(&crates).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(asking.iter().map(String::as_str).collect::<Vec<_>>(), TOLD);
}
