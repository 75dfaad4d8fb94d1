//! One finding, judged.

use serde::Serialize;

/// A finding: what was looked at, the verdict, why, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) check: Kind,
    /// Which one, where there are several: an address, a process, a worker.
    pub(super) subject: Option<String>,
    pub(super) verdict: Verdict,
    pub(super) reason: String,
    pub(super) next_step: Option<String>,
}

/// What was looked at. The names are part of the JSON form and stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Library,
    Device,
    Configuration,
    Process,
    Port,
    Gateway,
    Breaker,
    Worker,
    DirectInference,
    EndToEndInference,
    Agreement,
}

impl Kind {
    /// The name for people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Device => "device",
            Self::Configuration => "configuration",
            Self::Process => "process",
            Self::Port => "port",
            Self::Gateway => "gateway",
            Self::Breaker => "breaker",
            Self::Worker => "worker",
            Self::DirectInference => "direct inference",
            Self::EndToEndInference => "end-to-end inference",
            Self::Agreement => "agreement",
        }
    }

    /// A finding about the only one of its kind.
    pub(super) fn at_all(self) -> Finding {
        Finding { check: self, subject: None }
    }

    /// A finding about one of several.
    pub(super) fn of(self, subject: &(impl ToString + ?Sized)) -> Finding {
        Finding { check: self, subject: Some(subject.to_string()) }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warn,
    /// It does not work.
    Fail,
    /// It could not be looked at, or there is nothing to look at.
    Skipped,
}

impl Verdict {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skipped => "skipped",
        }
    }
}

/// A finding, about to be judged.
pub(super) struct Finding {
    check: Kind,
    subject: Option<String>,
}

impl Finding {
    pub(super) fn ok(self, reason: impl Into<String>) -> Check {
        self.judged(Verdict::Ok, reason, None)
    }

    pub(super) fn warn(self, reason: impl Into<String>, next_step: impl Into<String>) -> Check {
        self.judged(Verdict::Warn, reason, Some(next_step.into()))
    }

    pub(super) fn fail(self, reason: impl Into<String>, next_step: impl Into<String>) -> Check {
        self.judged(Verdict::Fail, reason, Some(next_step.into()))
    }

    pub(super) fn skipped(self, reason: impl Into<String>, next_step: Option<&str>) -> Check {
        self.judged(Verdict::Skipped, reason, next_step.map(str::to_owned))
    }

    fn judged(
        self,
        verdict: Verdict,
        reason: impl Into<String>,
        next_step: Option<String>,
    ) -> Check {
        let Self { check, subject } = self;
        let mut reason = reason.into();
        if reason.contains('\n') {
            // A loader's or a parser's own words: here they get one line.
            reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        Check { check, subject, verdict, reason, next_step }
    }
}
