//! What a worker last told of its queue, kept where every answer may write it and every request
//! reads it.
//!
//! A report is about the next request at the moment of the answer. It ages fast: a gateway that
//! went on believing that a queue is long would send nothing there, and so never hear that it has
//! emptied. After a second it is forgotten, and the worker is asked again.

mod report;

pub use self::report::ReportedLoad;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use inferring_types::WorkerLoad;
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    proptest! {
        #[test]
        fn the_newest_report_is_believed_for_as_long_as_it_may_be_old(
            reports in prop::collection::vec((0..3_000_u64, 0..20_000_u64, 0..90_000_u64), 0..8),
            later in 0..3_000_u64,
        ) {
            let mut now = clock::start();
            let reported = ReportedLoad::new(now);
            let mut newest = None;
            for (passed, wait, run) in reports {
                now += Duration::from_millis(passed);
                let (wait, run) = (Duration::from_micros(wait), Duration::from_micros(run));
                reported.tell(WorkerLoad { wait, run }, now);
                newest = Some((WorkerLoad { wait, run }, now));
            }
            now += Duration::from_millis(later);
            let believed = newest.filter(|&(_, told)| now - told <= SECOND).map(|(load, _)| load);
            prop_assert_eq!(reported.read(now, SECOND), believed);
        }
    }

    #[test]
    fn what_does_not_fit_is_told_as_the_longest_time_that_does() {
        let now = clock::start();
        let reported = ReportedLoad::new(now);
        let day = Duration::from_secs(86_400);
        reported.tell(WorkerLoad { wait: day, run: Duration::from_micros(7) }, now);
        let read = reported.read(now, SECOND).unwrap();
        assert_eq!(read.run, Duration::from_micros(7));
        assert!(read.wait > Duration::from_secs(4000), "{read:?}");
    }
}
