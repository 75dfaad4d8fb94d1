//! Which class of priority is served next: weighted fair shares in virtual time.
//!
//! Each class has a quarter of the weight of the one above it. Whoever is served pays for the
//! time it takes, divided by its weight, on a clock of its own; the class whose clock shows the
//! least is next, the more urgent of two that show the same. So the most urgent get nearly all
//! they ask for, and everybody else's clock stands still meanwhile until it is their turn: nobody
//! starves. A class that had no work starts at the time of the others, or it could claim later
//! what it did not ask for then.
//!
//! Start-time fair queueing: Goyal, Vin, Cheng, SIGCOMM 1996.

use smallvec::SmallVec;

/// How many times the weight of the next class a class has.
const STEP: f64 = 4.0;

#[derive(Debug)]
pub(super) struct Classes {
    /// By class, the virtual time at which it is served next.
    starts: SmallVec<[f64; 4]>,
    /// The virtual time at which the last one was served.
    time: f64,
}

impl Classes {
    pub(super) fn new(count: usize) -> Self {
        Self { starts: SmallVec::from_elem(0.0, count.max(1)), time: 0.0 }
    }

    pub(super) fn count(&self) -> usize {
        self.starts.len()
    }

    /// Work for a class that had none.
    pub(super) fn wake(&mut self, class: usize) {
        self.starts[class] = self.starts[class].max(self.time);
    }

    /// The one of those `with_work` whose turn it is.
    pub(super) fn next(&self, with_work: impl Fn(usize) -> bool) -> Option<usize> {
        let candidates = (0..self.count()).filter(|&class| with_work(class));
        candidates.min_by(|&a, &b| self.starts[a].total_cmp(&self.starts[b]))
    }

    /// A class was served that much.
    pub(super) fn charge(&mut self, class: usize, cost: f64) {
        self.time = self.time.max(self.starts[class]);
        self.starts[class] += cost * STEP.powi(class.min(16) as i32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(classes: &mut Classes, rounds: usize, with_work: &[usize]) -> Vec<usize> {
        let mut served = vec![0; classes.count()];
        for _ in 0..rounds {
            let class = classes.next(|class| with_work.contains(&class)).unwrap();
            classes.charge(class, 1.0);
            served[class] += 1;
        }
        served
    }

    #[test]
    fn shares_are_as_the_weights() {
        assert_eq!(serve(&mut Classes::new(3), 2100, &[0, 1, 2]), [1600, 400, 100]);
        assert_eq!(serve(&mut Classes::new(3), 500, &[1, 2]), [0, 400, 100]);
    }

    #[test]
    fn who_had_no_work_claims_nothing_for_it_later() {
        let mut classes = Classes::new(2);
        serve(&mut classes, 1000, &[0]);
        classes.wake(1);
        assert_eq!(serve(&mut classes, 100, &[0, 1]), [80, 20]);
    }

    #[test]
    fn an_urgent_job_need_not_wait_for_a_backlog_of_others() {
        let mut classes = Classes::new(3);
        serve(&mut classes, 1000, &[1, 2]);
        classes.wake(0);
        assert_eq!(classes.next(|_| true), Some(0));
    }
}
