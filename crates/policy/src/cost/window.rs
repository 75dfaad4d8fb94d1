//! The latest times of runs of one size, and what they say together.

use super::Seconds;

/// How many times are kept. Few, so that a model that changes is noticed; enough that one run in
/// twenty is one at least.
const SAMPLES: usize = 32;

/// After so many runs of all sizes a time is old: the machine may have been busy with other things
/// then. Each new time takes the place of so many old ones at most, for it may be as odd as they.
const OLD: u64 = 1024;
const REPLACED_MAX: usize = 4;

/// How far what is known of a size may be moved, either way, until it runs again. Others tell how
/// a model changes, but not exactly, and errors of many moves multiply.
const MOVED_MAX: f64 = 4.0;

/// Runs before a window has something to hold others against, and how many are held against it.
const ANCHOR_FIRST: u32 = 3;
const ANCHOR_KEPT: u32 = 16;

#[derive(Debug, Clone, Copy)]
struct Sample {
    seconds: f32,
    /// Which run of the curve it was.
    run: u64,
}

/// What runs took until a while ago.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor {
    pub(super) seconds: Seconds,
    /// The last of which it is known.
    pub(super) run: u64,
}

#[derive(Debug)]
pub(super) struct Window {
    samples: Vec<Sample>,
    next: usize,
    /// How many there have been.
    runs: u64,
    median: Seconds,
    p95: Seconds,
    /// The median as it was some runs ago, which later runs are held against.
    anchor: Option<Anchor>,
    /// Runs since then.
    since_anchor: u32,
    /// By how much it was moved since its last run.
    moved: f64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self {
            samples: Vec::with_capacity(SAMPLES),
            next: 0,
            runs: 0,
            median: 0.0,
            p95: 0.0,
            anchor: None,
            since_anchor: 0,
            moved: 1.0,
        }
    }

    /// Nothing has run, but it would probably take this long.
    pub(super) fn supposed(seconds: Seconds, safe: Seconds) -> Self {
        let mut window = Self::new();
        window.samples.push(Sample { seconds: seconds as f32, run: 0 });
        (window.median, window.p95, window.next) = (seconds, safe, 1);
        window.anchor = Some(Anchor { seconds, run: 0 });
        window
    }

    /// Whether what it says has changed.
    pub(super) fn push(&mut self, seconds: Seconds, run: u64) -> bool {
        let sample = Sample { seconds: seconds as f32, run };
        if self.runs == 0 {
            // What was supposed is known now.
            self.samples.clear();
            self.next = 0;
        }
        let forgot = self.forget(run.saturating_sub(OLD));
        if self.samples.len() < SAMPLES {
            self.samples.push(sample);
        } else {
            self.samples[self.next % SAMPLES] = sample;
        }
        self.next = (self.next + 1) % SAMPLES;
        self.runs += 1;
        self.moved = 1.0;
        self.since_anchor += 1;
        // One of many changes little; so a full window is sorted only now and then.
        let is_worth_it = forgot || self.runs < SAMPLES as u64 || self.runs.is_multiple_of(4);
        let changed = is_worth_it && self.sum_up();
        let runs = if self.anchor.is_some() { ANCHOR_KEPT } else { ANCHOR_FIRST };
        if self.since_anchor >= runs {
            self.set_anchor(run);
        }
        changed
    }

    /// Forgets a few of the times from before that run, if there are any.
    fn forget(&mut self, before: u64) -> bool {
        if self.samples.iter().all(|sample| sample.run >= before) {
            return false;
        }
        self.samples.sort_unstable_by_key(|sample| sample.run);
        let old = self.samples.partition_point(|sample| sample.run < before);
        self.samples.drain(..old.min(REPLACED_MAX));
        self.next = self.samples.len();
        // What they said is no measure of whether the model has changed.
        (self.anchor, self.since_anchor) = (None, 0);
        true
    }

    /// What is held against a run; `None` if there were too few to tell.
    pub(super) fn anchor(&self) -> Option<Anchor> {
        self.anchor
    }

    /// That run still took what was to be expected.
    pub(super) fn confirm(&mut self, run: u64) {
        if let Some(anchor) = &mut self.anchor {
            anchor.run = run;
        }
    }

    fn set_anchor(&mut self, run: u64) {
        (self.anchor, self.since_anchor) = (Some(Anchor { seconds: self.median, run }), 0);
    }

    /// Runs up to that one would take `factor` times as long now, after the last of so many `runs`.
    pub(super) fn rescale(&mut self, last: u64, factor: f64, runs: u64) {
        let moved = (self.moved * factor).clamp(MOVED_MAX.recip(), MOVED_MAX);
        let factor = moved / self.moved;
        self.moved = moved;
        for sample in &mut self.samples {
            if sample.run <= last {
                sample.seconds *= factor as f32;
            }
        }
        if self.runs == 0 {
            self.median *= factor;
            self.p95 *= factor;
        } else {
            self.sum_up();
        }
        if self.anchor.is_some() {
            self.set_anchor(runs);
        }
    }

    pub(super) fn runs(&self) -> u64 {
        self.runs
    }

    /// How many of its times are not old, now that there were `runs` of all sizes.
    pub(super) fn recent(&self, runs: u64) -> usize {
        let since = runs.saturating_sub(OLD);
        self.samples.iter().filter(|sample| sample.run >= since).count()
    }

    /// By how many times it judges.
    pub(super) fn samples(&self) -> usize {
        self.samples.len()
    }

    pub(super) fn median(&self) -> Seconds {
        self.median
    }

    pub(super) fn p95(&self) -> Seconds {
        self.p95
    }

    fn sum_up(&mut self) -> bool {
        let mut sorted = [0_f32; SAMPLES];
        let count = self.samples.len();
        for (place, sample) in sorted.iter_mut().zip(&self.samples) {
            *place = sample.seconds;
        }
        let sorted = &mut sorted[..count];
        sorted.sort_unstable_by(f32::total_cmp);
        let median = Seconds::from(sorted[(count - 1) / 2]);
        let p95 = Seconds::from(sorted[(count * 95).div_ceil(100) - 1]);
        let changed = differs(median, self.median) || differs(p95, self.p95);
        if changed {
            (self.median, self.p95) = (median, p95);
        }
        changed
    }
}

/// By more than is worth the trouble.
fn differs(one: Seconds, other: Seconds) -> bool {
    (one - other).abs() > 0.01 * other
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Were it moved on and on, it would soon say that a run takes for ever, or no time.
    #[test]
    fn a_size_that_never_runs_is_not_moved_without_end() {
        for factor in [1.5, 0.5] {
            let mut window = Window::new();
            (0..5).for_each(|run| _ = window.push(1.0, run));
            (5..1000).for_each(|run| window.rescale(run, factor, run));
            let moved = window.median();
            assert!((0.24..4.1).contains(&moved), "{moved}");
            assert!((0.24..4.1).contains(&window.p95()));
            window.push(moved, 1001);
            window.rescale(1002, factor, 1002);
            assert!((window.median() / moved - factor).abs() < 0.01, "{}", window.median());
        }
    }

    #[test]
    fn the_latest_runs_count() {
        let mut window = Window::new();
        for run in 0..100 {
            window.push(1.0 + run as f64 / 100.0, run);
        }
        assert!((window.median() - 1.83).abs() < 0.03, "{}", window.median());
        assert!((window.p95() - 1.98).abs() < 0.03, "{}", window.p95());
        assert_eq!((window.runs(), window.samples()), (100, 32));
    }

    #[test]
    fn what_a_size_took_long_ago_is_forgotten_when_it_runs_again() {
        let mut window = Window::new();
        (0..10).for_each(|run| _ = window.push(40.0, run));
        window.push(10.0, 900);
        assert_eq!(window.median(), 40.0);
        let again = [2000, 2100, 2200];
        again.iter().for_each(|&run| _ = window.push(10.0, run));
        assert_eq!((window.median(), window.p95(), window.samples()), (10.0, 10.0, 3));
        (2300..2400).for_each(|run| _ = window.push((run - 2300) as f64, run));
        assert!(window.median() > 80.0, "the latest are kept: {}", window.median());
        assert_eq!(window.samples(), 32);
    }

    #[test]
    fn what_was_supposed_gives_way_to_what_was_measured() {
        let mut window = Window::supposed(5.0, 6.0);
        assert_eq!((window.median(), window.p95(), window.runs()), (5.0, 6.0, 0));
        window.rescale(1, 2.0, 1);
        assert_eq!((window.median(), window.p95()), (10.0, 12.0));
        assert!(window.push(1.0, 7));
        assert_eq!((window.median(), window.p95(), window.runs()), (1.0, 1.0, 1));
    }

    #[test]
    fn only_runs_before_the_change_are_rescaled() {
        let mut window = Window::new();
        for (run, seconds) in [(0, 1.0), (1, 1.0), (2, 1.0), (3, 3.0), (4, 3.0)] {
            window.push(seconds, run);
        }
        window.rescale(2, 3.0, 4);
        assert_eq!((window.median(), window.p95()), (3.0, 3.0));
    }
}
