//! The book of sequences: which there are, what is kept of each, and when it is forgotten.
//!
//! Everything here is told the time and waits for nothing. A sequence is in the book from the
//! arrival of its first request; that and every later one holds a seat in it until it is over,
//! and a sequence with anybody seated is never forgotten. One that nobody sits in is idle since
//! the last one left.

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use inferring_types::SequenceId;
use tokio::sync::Mutex as Turns;

/// How much there may be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Limits {
    /// After so much time without a request, a sequence is forgotten.
    pub(super) idle_timeout: Duration,
    /// Rows of all sequences together.
    pub(super) rows: u64,
    /// Requests that wait for an earlier one of their sequence.
    pub(super) waiting_requests: usize,
    /// The bytes of their inputs.
    pub(super) waiting_bytes: u64,
}

/// A request as it arrives.
pub(super) struct Arrival<'a> {
    pub(super) id: &'a SequenceId,
    pub(super) start: bool,
    /// Rows that it has.
    pub(super) rows: u64,
    /// Bytes of its inputs.
    pub(super) bytes: u64,
}

/// A request that is in the book.
#[derive(Debug)]
pub(super) struct Seated {
    /// What requests of this sequence take turns by, in their order.
    pub(super) turns: Arc<Turns<()>>,
    /// Whether it comes behind others. It is then to be [called](Table::call) at its turn.
    pub(super) waits: bool,
}

/// Why a request is not let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It goes on with a sequence that is not there.
    Unknown,
    /// There are as many rows as there may be. Some may be free after that time, if it is known.
    Full { retry_after: Option<Duration> },
    /// Too many requests wait for earlier ones of their sequences.
    Crowded,
}

/// What is kept of a sequence between two requests.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept<S> {
    pub(super) rows: u64,
    pub(super) state: S,
}

/// All sequences of a loaded model.
pub(super) struct Table<S> {
    limits: Limits,
    sequences: HashMap<SequenceId, Sequence<S>>,
    /// Those that nobody sits in, the longest idle first.
    idle: BTreeMap<IdleSince, SequenceId>,
    rows: u64,
    waiting_requests: usize,
    waiting_bytes: u64,
    departures: u64,
}

struct Sequence<S> {
    turns: Arc<Turns<()>>,
    /// Nothing before the first request was answered, and after the last.
    kept: Option<Kept<S>>,
    /// Rows that there is room for: as many as are kept, or more while requests may begin anew.
    rows: u64,
    seats: usize,
    idle: Option<IdleSince>,
}

/// The moment since which a sequence is idle, and a number that no other has.
type IdleSince = (Instant, u64);

impl<S> Table<S> {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            sequences: HashMap::new(),
            idle: BTreeMap::new(),
            rows: 0,
            waiting_requests: 0,
            waiting_bytes: 0,
            departures: 0,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many sequences there are.
    pub(super) fn len(&self) -> usize {
        self.sequences.len()
    }

    /// Gives a request a seat in its sequence, which [`leave`](Self::leave) gives back.
    ///
    /// # Errors
    /// [`Refused`]; nothing has changed then.
    pub(super) fn sit(&mut self, arrival: &Arrival<'_>, now: Instant) -> Result<Seated, Refused> {
        self.forget_idle(now);
        let (rows, limits) = (arrival.rows.max(1), &self.limits);
        let (seats, had) = match self.sequences.get(arrival.id) {
            Some(sequence) => (sequence.seats, sequence.rows),
            None if arrival.start => (0, 0),
            None => return Err(Refused::Unknown),
        };
        let more = if arrival.start { rows.saturating_sub(had) } else { 0 };
        if self.rows.saturating_add(more) > limits.rows {
            return Err(Refused::Full { retry_after: self.first_expiry(now) });
        }
        let waits = seats > 0;
        if waits {
            let bytes = self.waiting_bytes.saturating_add(arrival.bytes);
            if self.waiting_requests >= limits.waiting_requests || bytes > limits.waiting_bytes {
                return Err(Refused::Crowded);
            }
            self.waiting_requests += 1;
            self.waiting_bytes = bytes;
        }
        let sequence = self.sequences.entry(arrival.id.clone()).or_insert_with(|| Sequence {
            turns: Arc::default(),
            kept: None,
            rows: 0,
            seats: 0,
            idle: None,
        });
        if let Some(since) = sequence.idle.take() {
            self.idle.remove(&since);
        }
        sequence.seats += 1;
        sequence.rows += more;
        self.rows += more;
        Ok(Seated { turns: sequence.turns.clone(), waits })
    }

    /// Counts a request of so many bytes out of those that wait.
    pub(super) fn call(&mut self, bytes: u64) {
        self.waiting_requests -= 1;
        self.waiting_bytes -= bytes;
    }

    /// What is kept of a sequence; nothing where it has not begun, or has ended.
    pub(super) fn kept(&self, id: &SequenceId) -> Option<&Kept<S>> {
        self.sequences.get(id)?.kept.as_ref()
    }

    /// Keeps this of a sequence in place of what was kept; its end where it is nothing. Only for
    /// a request that is seated in it, at its turn.
    pub(super) fn keep(&mut self, id: &SequenceId, kept: Option<Kept<S>>) {
        let sequence = self.sequences.get_mut(id).expect("a sequence stays while anybody is in it");
        sequence.kept = kept;
    }

    /// Takes a seat back. The last one makes the sequence idle, or ends it where nothing is kept.
    pub(super) fn leave(&mut self, id: &SequenceId, now: Instant) {
        let Place::Occupied(mut place) = self.sequences.entry(id.clone()) else {
            unreachable!("a sequence stays while anybody is in it");
        };
        let sequence = place.get_mut();
        sequence.seats -= 1;
        if sequence.seats > 0 {
            return;
        }
        // Room that was made for beginnings which failed, or are over.
        let needed = sequence.kept.as_ref().map_or(0, |kept| kept.rows.max(1));
        self.rows -= sequence.rows - needed;
        sequence.rows = needed;
        if sequence.kept.is_none() {
            place.remove();
            return;
        }
        self.departures += 1;
        let since = (now, self.departures);
        sequence.idle = Some(since);
        self.idle.insert(since, id.clone());
    }

    /// Forgets what has been idle for too long.
    pub(super) fn forget_idle(&mut self, now: Instant) {
        while let Some(longest) = self.idle.first_entry() {
            let (since, _) = longest.key();
            if now.saturating_duration_since(*since) < self.limits.idle_timeout {
                return;
            }
            let id = longest.remove();
            let forgotten = self.sequences.remove(&id).expect("what is idle is there");
            self.rows -= forgotten.rows;
        }
    }

    /// How long it is until the first of those that are idle now is forgotten.
    fn first_expiry(&self, now: Instant) -> Option<Duration> {
        let ((since, _), _) = self.idle.first_key_value()?;
        let idle = now.saturating_duration_since(*since);
        Some(self.limits.idle_timeout.saturating_sub(idle))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

    /// A table of numbers on a clock that the test turns.
    struct Fixture {
        table: Table<u32>,
        now: Instant,
    }

    impl Fixture {
        fn new(rows: u64) -> Self {
            let limits = Limits {
                idle_timeout: IDLE_TIMEOUT,
                rows,
                waiting_requests: 2,
                waiting_bytes: 100,
            };
            Self { table: Table::new(limits), now: Instant::now() }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
        }

        fn arrive(&mut self, id: &str, start: bool, rows: u64) -> Result<bool, Refused> {
            let arrival = Arrival { id: &sequence(id), start, rows, bytes: 10 };
            self.table.sit(&arrival, self.now).map(|seated| seated.waits)
        }

        fn start(&mut self, id: &str) -> Result<bool, Refused> {
            self.arrive(id, true, 1)
        }

        fn go_on(&mut self, id: &str) -> Result<bool, Refused> {
            self.arrive(id, false, 1)
        }

        /// A request is over: answered with this as the state, or without success.
        fn answered(&mut self, id: &str, state: Option<u32>) {
            self.table.keep(&sequence(id), state.map(|state| Kept { rows: 1, state }));
            self.failed(id);
        }

        fn failed(&mut self, id: &str) {
            self.table.leave(&sequence(id), self.now);
        }

        fn state(&self, id: &str) -> Option<u32> {
            self.table.kept(&sequence(id)).map(|kept| kept.state)
        }
    }

    fn sequence(id: &str) -> SequenceId {
        id.parse().unwrap()
    }

    #[test]
    fn a_sequence_is_there_from_its_start_to_its_end() {
        let mut f = Fixture::new(8);
        assert_eq!(f.go_on("a"), Err(Refused::Unknown));
        assert_eq!(f.start("a"), Ok(false));
        f.answered("a", Some(1));
        assert_eq!(f.state("a"), Some(1));
        assert_eq!(f.go_on("a"), Ok(false));
        f.answered("a", None);
        assert_eq!((f.table.len(), f.table.rows), (0, 0));
        assert_eq!(f.go_on("a"), Err(Refused::Unknown));
    }

    #[test]
    fn a_start_that_fails_leaves_nothing_and_a_step_that_fails_what_was_there() {
        let mut f = Fixture::new(8);
        f.start("a").unwrap();
        f.failed("a");
        assert_eq!(f.table.len(), 0);
        f.start("a").unwrap();
        f.answered("a", Some(1));
        f.go_on("a").unwrap();
        f.failed("a");
        assert_eq!(f.state("a"), Some(1));
        f.start("a").unwrap();
        f.failed("a");
        assert_eq!(f.state("a"), Some(1));
    }

    #[test]
    fn what_idles_too_long_is_forgotten_and_each_request_keeps_it() {
        let mut f = Fixture::new(8);
        for id in ["a", "b"] {
            f.start(id).unwrap();
            f.answered(id, Some(1));
        }
        f.pass(IDLE_TIMEOUT - Duration::from_nanos(1));
        f.go_on("b").unwrap();
        f.failed("b");
        f.pass(Duration::from_nanos(1));
        assert_eq!(f.go_on("a"), Err(Refused::Unknown));
        assert_eq!(f.go_on("b"), Ok(false));
        // However long a request takes, its sequence is not idle.
        f.pass(10 * IDLE_TIMEOUT);
        f.table.forget_idle(f.now);
        assert_eq!(f.state("b"), Some(1));
        f.answered("b", Some(2));
        f.pass(IDLE_TIMEOUT);
        f.table.forget_idle(f.now);
        assert_eq!((f.table.len(), f.table.rows, f.table.idle.len()), (0, 0, 0));
    }

    #[test]
    fn one_start_too_many_is_refused_and_told_when_there_may_be_room() {
        let mut f = Fixture::new(2);
        f.start("a").unwrap();
        f.start("b").unwrap();
        // Both are busy: nobody knows for how long.
        assert_eq!(f.start("c"), Err(Refused::Full { retry_after: None }));
        f.answered("a", Some(1));
        f.pass(Duration::from_secs(20));
        f.answered("b", Some(1));
        let in_40 = Some(Duration::from_secs(40));
        assert_eq!(f.start("c"), Err(Refused::Full { retry_after: in_40 }));
        // Those that are there go on, or begin anew.
        assert_eq!(f.start("a"), Ok(false));
        f.answered("a", Some(2));
        f.pass(IDLE_TIMEOUT - Duration::from_secs(1));
        let in_1 = Some(Duration::from_secs(1));
        assert_eq!(f.start("c"), Err(Refused::Full { retry_after: in_1 }));
        f.pass(Duration::from_secs(1));
        assert_eq!(f.start("c"), Ok(false));
    }

    #[test]
    fn a_sequence_counts_as_often_as_it_has_rows() {
        let mut f = Fixture::new(4);
        f.arrive("a", true, 3).unwrap();
        assert_eq!(f.arrive("b", true, 2), Err(Refused::Full { retry_after: None }));
        f.arrive("b", true, 1).unwrap();
        f.failed("b");
        f.table.keep(&sequence("a"), Some(Kept { rows: 3, state: 1 }));
        f.failed("a");
        // Beginning anew with fewer rows makes room once it has succeeded, and not before.
        f.arrive("a", true, 1).unwrap();
        assert!(f.arrive("b", true, 2).is_err());
        f.answered("a", Some(2));
        f.arrive("b", true, 3).unwrap();
        assert_eq!(f.table.rows, 4);
        // Room for more rows is given back where they never come.
        f.failed("b");
        f.arrive("a", true, 4).unwrap();
        assert_eq!(f.table.rows, 4);
        f.failed("a");
        assert_eq!(f.table.rows, 1);
    }

    #[test]
    fn few_wait_behind_others() {
        let mut f = Fixture::new(8);
        f.start("a").unwrap();
        assert_eq!(f.go_on("a"), Ok(true));
        assert_eq!(f.go_on("a"), Ok(true));
        assert_eq!(f.go_on("a"), Err(Refused::Crowded));
        // Other sequences are not behind anybody.
        assert_eq!(f.start("b"), Ok(false));
        assert_eq!(f.go_on("b"), Err(Refused::Crowded));
        f.table.call(10);
        let large = Arrival { id: &sequence("b"), start: false, rows: 1, bytes: 91 };
        assert_eq!(f.table.sit(&large, f.now).unwrap_err(), Refused::Crowded);
        assert_eq!(f.go_on("b"), Ok(true));
    }

    /// What becomes of one sequence next.
    #[derive(Debug, Clone)]
    enum Event {
        Arrive { start: bool, rows: u64 },
        Answered { end: bool },
        Failed,
        Pass(Duration),
    }

    fn event() -> impl Strategy<Value = (usize, Event)> {
        let event = prop_oneof![
            (any::<bool>(), 0u64..4).prop_map(|(start, rows)| Event::Arrive { start, rows }),
            any::<bool>().prop_map(|end| Event::Answered { end }),
            Just(Event::Failed),
            (0u64..90).prop_map(|seconds| Event::Pass(Duration::from_secs(seconds))),
        ];
        (0..4usize, event)
    }

    proptest! {
        /// Whatever happens, the books balance: no more rows than allowed, each sequence has room
        /// for what it keeps, and nothing is left when all have gone and the time has passed.
        #[test]
        fn the_books_balance(events in prop::collection::vec(event(), 0..60)) {
            let mut f = Fixture::new(5);
            // The requests in each sequence: their rows where they begin it, and whether they wait.
            let mut seated: [Vec<(u64, bool)>; 4] = Default::default();
            let ids = ["a", "b", "c", "d"];
            let leave = |f: &mut Fixture, who: usize, seated: &mut [Vec<(u64, bool)>; 4]| {
                let (rows, waits) = seated[who].remove(0);
                if waits {
                    f.table.call(10);
                }
                rows
            };
            for (who, event) in events {
                let id = ids[who];
                match event {
                    Event::Arrive { start, rows } => {
                        if let Ok(waits) = f.arrive(id, start, rows) {
                            prop_assert_eq!(waits, !seated[who].is_empty());
                            seated[who].push((if start { rows } else { 0 }, waits));
                        }
                    }
                    Event::Answered { end } if !seated[who].is_empty() => {
                        let rows = leave(&mut f, who, &mut seated);
                        let kept = (!end).then_some(Kept { rows, state: 1 });
                        f.table.keep(&sequence(id), kept);
                        f.failed(id);
                    }
                    Event::Failed if !seated[who].is_empty() => {
                        leave(&mut f, who, &mut seated);
                        f.failed(id);
                    }
                    Event::Answered { .. } | Event::Failed => {}
                    Event::Pass(time) => f.pass(time),
                }
                let table = &f.table;
                prop_assert!(table.rows <= 5);
                prop_assert_eq!(table.rows, table.sequences.values().map(|s| s.rows).sum::<u64>());
                for sequence in table.sequences.values() {
                    let kept = sequence.kept.as_ref().map_or(0, |kept| kept.rows);
                    prop_assert!(sequence.rows >= kept);
                    prop_assert_eq!(sequence.idle.is_some(), sequence.seats == 0);
                }
                let waiting = seated.iter().flatten().filter(|(_, waits)| *waits).count();
                prop_assert_eq!(table.waiting_requests, waiting);
                prop_assert_eq!(table.waiting_bytes, 10 * waiting as u64);
            }
            for who in 0..4 {
                while !seated[who].is_empty() {
                    leave(&mut f, who, &mut seated);
                    f.failed(ids[who]);
                }
            }
            f.pass(IDLE_TIMEOUT);
            f.table.forget_idle(f.now);
            prop_assert_eq!((f.table.len(), f.table.rows, f.table.idle.len()), (0, 0, 0));
        }
    }
}
