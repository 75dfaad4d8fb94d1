//! Puts the findings into words, for people and for programs.

use std::fmt::Write as _;

use serde::Serialize;

use super::check::{Check, Verdict};

/// All findings.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether nothing failed.
    healthy: bool,
    counts: Counts,
    checks: Vec<Check>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Counts {
    ok: usize,
    warn: usize,
    fail: usize,
    skipped: usize,
}

impl Report {
    pub(super) fn new(checks: Vec<Check>) -> Self {
        let mut counts = Counts::default();
        for check in &checks {
            *match check.verdict {
                Verdict::Ok => &mut counts.ok,
                Verdict::Warn => &mut counts.warn,
                Verdict::Fail => &mut counts.fail,
                Verdict::Skipped => &mut counts.skipped,
            } += 1;
        }
        Self { healthy: counts.fail == 0, counts, checks }
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// A line per finding, and below those that are not in order a line with the next step.
    pub(super) fn as_text(&self, colour: bool) -> String {
        let titles: Vec<String> = self.checks.iter().map(title).collect();
        let width = titles.iter().map(|title| title.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        let mut line = |line: String| {
            writeln!(text, "{line}").expect("writing to memory does not fail");
        };
        for (check, title) in self.checks.iter().zip(&titles) {
            line(format!("{} {title:width$}  {}", word(check.verdict, colour), check.reason));
            if let Some(next_step) = &check.next_step {
                line(format!("{:VERDICT_WIDTH$} {:width$}  -> {next_step}", "", ""));
            }
        }
        let Counts { ok, warn, fail, skipped } = self.counts;
        let total = self.checks.len();
        line(format!("{total} checks: {ok} ok, {warn} warn, {fail} fail, {skipped} skipped"));
        text
    }

    pub(super) fn as_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }
}

const VERDICT_WIDTH: usize = "skipped".len();

fn title(check: &Check) -> String {
    match &check.subject {
        Some(subject) => format!("{} {subject}", check.check.title()),
        None => check.check.title().to_owned(),
    }
}

fn word(verdict: Verdict, colour: bool) -> String {
    let word = format!("{:VERDICT_WIDTH$}", verdict.word());
    let code = match verdict {
        Verdict::Ok => "32",
        Verdict::Warn => "33",
        Verdict::Fail => "1;31",
        Verdict::Skipped => "2",
    };
    if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word }
}
