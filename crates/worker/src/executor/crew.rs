//! The instances of one model: who they are, and who takes the place of one that hangs.
//!
//! An engine may hang in a run that nobody can end: in one operator that takes for ever, in a
//! driver that does not answer. Its thread is then lost for as long as that lasts. Whoever waits
//! for the batch is told at once, and a new instance takes the place, so that the requests behind
//! it are served. The lost thread ends by itself if it comes back. See ADR 0011.

use std::error::Error;
use std::io;
use std::num::NonZeroUsize;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use inferring_backend::{Session, pin_current_thread};
use inferring_types::{Blame, ErrorKind, ModelName, ServiceError, Tensor, TensorSpec};
use parking_lot::Mutex;
use tracing::{error, warn};

use super::instance::Instance;
use super::sessions::Spares;
use super::workbench::{self, Patience, Workbench};
use crate::assembly::Room;
use crate::batcher::{Batch, Batcher};
use crate::statistics::Statistics;
use crate::threads::{ThreadNumber, Threads};
use crate::watchdog::{Attention, Sight, Watchdog, Watched};

/// The instances of one loaded version of a model, and all they share.
pub(super) struct Crew {
    /// Itself, for the threads of instances that take the place of others.
    pub(super) me: Weak<Self>,
    pub(super) name: ModelName,
    pub(super) batcher: Arc<Batcher>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) outputs: Vec<TensorSpec>,
    pub(super) attention: Arc<Attention>,
    /// What a new instance tells a bad input from a broken session by.
    pub(super) known_good: Option<Vec<Tensor>>,
    pub(super) spares: Spares,
    pub(super) limit: Option<Duration>,
    /// To which the threads of instances are bound, one after the other; to none where empty.
    pub(super) cores: Vec<usize>,
    pub(super) threads: Arc<Threads>,
    pub(super) members: Mutex<Members>,
}

/// Those that are there, and what to do when there is none any more.
pub(super) struct Members {
    here: Vec<Member>,
    /// How many have hung so far and were replaced.
    lost: usize,
    ended: Option<Box<dyn FnOnce() + Send>>,
}

struct Member {
    bench: Arc<Workbench>,
    thread: ThreadNumber,
}

/// A run was ended because it had taken longer than it may, and heeded that.
#[derive(Debug, thiserror::Error)]
#[error("the run was ended")]
pub(crate) struct OverLimit;

impl OverLimit {
    /// Whether that is why there is no answer.
    pub(crate) fn is_behind(error: &ServiceError) -> bool {
        error.source().is_some_and(<dyn Error>::is::<Self>)
    }
}

impl Members {
    /// None yet. When the last of those that come has left, `ended` is called, on its thread.
    pub(super) fn new(ended: impl FnOnce() + Send + 'static) -> Mutex<Self> {
        Mutex::new(Self { here: Vec::new(), lost: 0, ended: Some(Box::new(ended)) })
    }
}

impl Crew {
    /// The most threads of a model that may be lost in an engine. An instance that hangs beyond
    /// that is not replaced: it would be likely to lose the next one too, and each costs memory.
    const LOST_MAX: usize = 16;

    /// How long a run without a limit may take to end once it is interrupted. An engine ends
    /// between two operators, so this is a bound on one operator.
    const GRACE: Duration = Duration::from_secs(5);

    /// The same for runs that have a limit: about as long, within reason.
    fn patience(&self) -> Patience {
        const GRACE_MIN: Duration = Duration::from_millis(100);
        let grace = self.limit.map_or(Self::GRACE, |limit| limit.clamp(GRACE_MIN, Self::GRACE));
        Patience { limit: self.limit, grace }
    }

    /// Starts an instance with that session.
    ///
    /// # Errors
    /// The system's, where it starts no thread.
    pub(super) fn start(&self, session: Box<dyn Session>) -> io::Result<()> {
        let mut members = self.members.lock();
        let place = members.here.len();
        let member = self.start_member(place, move || Some(session), Vec::new())?;
        members.here.push(member);
        Ok(())
    }

    fn start_member(
        &self,
        place: usize,
        session: impl FnOnce() -> Option<Box<dyn Session>> + Send + 'static,
        inherited: Vec<Batch>,
    ) -> io::Result<Member> {
        let bench = Arc::new(Workbench::default());
        let body = {
            let (crew, bench) = (self.me(), bench.clone());
            move || {
                let own = Place { crew, bench };
                // First, for the threads of an engine's own would be bound as this one is.
                let Some(session) = session() else { return };
                let (crew, bench) = (&*own.crew, &*own.bench);
                crew.bind_thread(place);
                let known_good = crew.known_good.clone();
                let room = Room::default();
                Instance { session, crew, bench, known_good, inherited, room }.run();
            }
        };
        let thread = self.threads.start(format!("run {}", self.name), body)?;
        Ok(Member { bench, thread })
    }

    /// Binds this thread, on which the instance in that place runs, to its core.
    fn bind_thread(&self, place: usize) {
        let Some(cores) = NonZeroUsize::new(self.cores.len()) else { return };
        let core = self.cores[place % cores];
        if let Err(error) = pin_current_thread(core) {
            warn!(model = %self.name, core, %error, "an instance is not bound to its core");
        }
    }

    /// An instance has ended. Where requests would wait for the last one in vain, they are refused.
    fn leave(&self, bench: &Arc<Workbench>) {
        let mut members = self.members.lock();
        members.here.retain(|member| !Arc::ptr_eq(&member.bench, bench));
        if !members.here.is_empty() {
            return;
        }
        let ended = members.ended.take();
        drop(members);
        if !self.batcher.is_closed() {
            error!(model = %self.name, "no instance of the model is left: it refuses requests");
            self.batcher.close();
        }
        // Before it is said that the model is gone.
        self.spares.release();
        if let Some(ended) = ended {
            ended();
        }
    }

    /// Answers the jobs of a batch whose run was ended because nobody waited for it: whoever came too
    /// late to keep it from that.
    pub(super) fn abandon(&self, batch: Batch) {
        let message = "the computation was given up: nobody waited for it";
        batch.fail(&ServiceError::unavailable(message));
    }

    /// Answers a lone job whose run was ended at its limit. It heeded that: where the job has several
    /// rows, fewer of them may be tried.
    pub(super) fn end_at_limit(&self, lone: Batch) {
        lone.fail(&self.over_limit().caused_by(OverLimit));
    }

    fn over_limit(&self) -> ServiceError {
        let limit = self.limit.unwrap_or_default();
        let message = format!("the model ran for longer than {limit:?}, which is its limit");
        ServiceError::new(ErrorKind::Internal, Blame::WorkerFailed, message)
    }

    /// Puts another instance in the place of one that hangs. What that ran is answered; what it
    /// had not come to is for the other one.
    fn replace(&self, bench: &Arc<Workbench>, batch: Batch, over_limit: bool, later: Vec<Batch>) {
        self.batcher.lost(batch.run());
        self.batcher.interrupted();
        if let Err(error) = self.put_in_place_of(bench, later) {
            error!(model = %self.name, error, "an instance hangs and is not replaced");
        }
        if !over_limit {
            return self.abandon(batch);
        }
        // One of several may have taken all the time; the others deserve another try.
        let error = self.over_limit();
        let error = if batch.jobs() > 1 { error.retryable() } else { error };
        batch.fail(&error);
    }

    fn put_in_place_of(&self, bench: &Arc<Workbench>, later: Vec<Batch>) -> Result<(), String> {
        let mut members = self.members.lock();
        let place = members.here.iter().position(|member| Arc::ptr_eq(&member.bench, bench));
        let place = place.ok_or("it has ended")?;
        // Nobody is to wait for its thread, whether it is replaced or not.
        self.threads.let_go(members.here[place].thread);
        if members.lost >= Self::LOST_MAX {
            return Err(format!("{} others hung before it", members.lost));
        }
        let crew = self.me();
        let session = move || match crew.spares.session() {
            Ok(session) => Some(session),
            Err(error) => {
                error!(model = %crew.name, %error, "no session for an instance in place of another");
                None
            }
        };
        let new = self.start_member(place, session, later).map_err(|error| error.to_string())?;
        bench.replace();
        members.here[place] = new;
        members.lost += 1;
        warn!(model = %self.name, lost = members.lost, "an instance hangs and is replaced");
        Ok(())
    }

    fn me(&self) -> Arc<Self> {
        self.me.upgrade().expect("whoever calls its methods holds it")
    }

    /// How long to wait until the next look, while something runs somewhere.
    fn interval(&self) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(5);
        let limit = self.limit.unwrap_or(Watchdog::INTERVAL);
        (limit / 4).clamp(SHORTEST, Watchdog::INTERVAL)
    }
}

/// The place of an instance, left when its thread ends, however that comes about; unless another
/// instance has it.
struct Place {
    crew: Arc<Crew>,
    bench: Arc<Workbench>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.bench.is_replaced() {
            self.crew.leave(&self.bench);
        }
    }
}

impl Watched for Crew {
    fn look(&self, now: Instant) -> Sight {
        let benches: Vec<_> =
            self.members.lock().here.iter().map(|member| member.bench.clone()).collect();
        let mut sight = Sight { is_busy: false, again: now + self.interval() };
        for bench in benches {
            match bench.look(self.patience(), now) {
                workbench::Sight::Idle => {}
                workbench::Sight::Running { due, went_over_limit } => {
                    if went_over_limit {
                        warn!(model = %self.name, limit = ?self.limit, "a run is over its limit");
                    }
                    sight.is_busy = true;
                    sight.again = due.map_or(sight.again, |due| due.min(sight.again));
                }
                workbench::Sight::Stuck { batch, over_limit, later } => {
                    self.replace(&bench, batch, over_limit, later);
                }
            }
        }
        sight
    }
}
