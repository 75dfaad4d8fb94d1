//! Whose turn it is.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::Thread;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;

thread_local! {
    static HERE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// What the present thread is in a simulation.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) kernel: Arc<Kernel>,
    /// `None` on the thread of the runtime.
    pub(crate) number: Option<Number>,
}

/// Tells the threads of a simulation apart.
pub(crate) type Number = u64;

/// The threads of a simulation, which is the one of the thread that made it until it is dropped.
pub struct Lockstep {
    kernel: Arc<Kernel>,
}

pub(crate) struct Kernel {
    state: Mutex<State>,
    /// Something was done outside of the threads that lets one of them go on.
    stirred: Notify,
    driver: Gate,
    pub(crate) runtime: Handle,
}

struct State {
    random: fastrand::Rng,
    threads: BTreeMap<Number, Simulated>,
    /// Those that could go on, in the order in which they came to.
    ready: Vec<Number>,
    /// Those that go on at that moment, whatever happens.
    alarms: BTreeSet<(Instant, Number)>,
    started: Number,
}

struct Simulated {
    gate: Arc<Gate>,
    name: String,
    waits: Option<Wait>,
    /// Whether its last wait ended because its time was over.
    timed_out: bool,
}

/// What a thread waits for, beside somebody who wakes it.
struct Wait {
    until: Option<Instant>,
}

/// Where a thread waits for its turn.
pub(crate) struct Gate {
    open: AtomicBool,
    thread: Thread,
}

impl Gate {
    fn of(thread: Thread) -> Self {
        Self { open: AtomicBool::new(false), thread }
    }

    fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Waits for a turn.
    pub(crate) fn pass(&self) {
        while !self.open.swap(false, Ordering::Acquire) {
            std::thread::park();
        }
    }
}

impl Lockstep {
    /// Threads whose order is drawn from this seed.
    ///
    /// # Panics
    /// Outside of a runtime, and where the thread belongs to a simulation already.
    pub fn new(seed: u64) -> Self {
        let kernel = Arc::new(Kernel {
            state: Mutex::new(State {
                random: fastrand::Rng::with_seed(seed),
                threads: BTreeMap::new(),
                ready: Vec::new(),
                alarms: BTreeSet::new(),
                started: 0,
            }),
            stirred: Notify::new(),
            driver: Gate::of(std::thread::current()),
            runtime: Handle::current(),
        });
        let before = Place { kernel: kernel.clone(), number: None }.enter();
        assert!(before.is_none(), "a thread belongs to one simulation at a time");
        Self { kernel }
    }

    /// Lets threads run whenever they can. It never ends; nothing happens without it.
    pub async fn drive(&self) {
        loop {
            let alarm = self.kernel.run();
            let alarm = async {
                match alarm {
                    Some(moment) => tokio::time::sleep_until(moment.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.kernel.stirred.notified() => {}
                () = alarm => {}
            }
        }
    }

    /// The names of threads that have not ended.
    pub fn running(&self) -> Vec<String> {
        let state = self.kernel.state.lock();
        state.threads.values().map(|thread| thread.name.clone()).collect()
    }
}

impl Drop for Lockstep {
    /// Threads that have not ended wait for ever: a simulation that ends in good order has none.
    fn drop(&mut self) {
        HERE.with_borrow_mut(Option::take);
    }
}

impl Place {
    /// The present thread's.
    ///
    /// # Panics
    /// Where it is in no simulation.
    pub(crate) fn here() -> Self {
        HERE.with_borrow(Clone::clone).expect("this thread belongs to a simulation")
    }

    /// Makes the present thread the one in this place; where it was before.
    pub(crate) fn enter(self) -> Option<Self> {
        HERE.with_borrow_mut(|here| here.replace(self))
    }

    /// Waits until it is woken or that moment has come; whether the latter.
    ///
    /// # Panics
    /// On the thread of the runtime: all others would wait with it.
    pub(crate) fn wait(&self, until: Option<Instant>) -> bool {
        let number = self.number.expect("the runtime's thread never blocks");
        self.kernel.wait(number, until)
    }
}

impl Kernel {
    /// Begins a thread, which has its first turn when it is drawn. A seed for its own use.
    pub(crate) fn add(&self, name: String, thread: Thread) -> (Number, Arc<Gate>, u64) {
        let gate = Arc::new(Gate::of(thread));
        let mut state = self.state.lock();
        state.started += 1;
        let number = state.started;
        let thread = Simulated { gate: gate.clone(), name, waits: None, timed_out: false };
        state.threads.insert(number, thread);
        state.ready.push(number);
        let seed = state.random.u64(..);
        drop(state);
        self.stir();
        (number, gate, seed)
    }

    /// The present thread has ended and passes its turn on.
    pub(crate) fn end(&self, number: Number) {
        let next = {
            let mut state = self.state.lock();
            state.threads.remove(&number);
            state.draw()
        };
        self.let_run(next);
    }

    /// Lets a thread that waits go on; `false` where it does not wait any more.
    pub(crate) fn wake(&self, number: Number) -> bool {
        let is_woken = self.state.lock().wake(number, false);
        if is_woken {
            self.stir();
        }
        is_woken
    }

    /// One of so many, at random.
    pub(crate) fn draw(&self, below: usize) -> usize {
        self.state.lock().random.usize(..below)
    }

    fn wait(&self, number: Number, until: Option<Instant>) -> bool {
        let (next, gate) = {
            let mut state = self.state.lock();
            if let Some(moment) = until {
                state.alarms.insert((moment, number));
            }
            let own = state.threads.get_mut(&number).expect("a thread is listed until it ends");
            own.waits = Some(Wait { until });
            let gate = own.gate.clone();
            (state.draw(), gate)
        };
        self.let_run(next);
        gate.pass();
        self.state.lock().threads[&number].timed_out
    }

    /// Lets threads run until none can go on at this moment; when the next one can by itself.
    fn run(&self) -> Option<Instant> {
        let now = crate::now();
        loop {
            let next = {
                let mut state = self.state.lock();
                state.ring(now);
                match state.draw() {
                    Some(next) => next,
                    None => return state.alarms.first().map(|(moment, _)| *moment),
                }
            };
            next.open();
            self.driver.pass();
        }
    }

    fn let_run(&self, next: Option<Arc<Gate>>) {
        match next {
            Some(gate) => gate.open(),
            None => self.driver.open(),
        }
    }

    /// Has the driver look, unless it is at it.
    fn stir(&self) {
        let is_driver = HERE.with_borrow(|here| here.as_ref().is_some_and(|h| h.number.is_none()));
        if is_driver {
            self.stirred.notify_one();
        }
    }
}

impl State {
    /// Takes one of the threads that could go on.
    fn draw(&mut self) -> Option<Arc<Gate>> {
        if self.ready.is_empty() {
            return None;
        }
        let place = self.random.usize(..self.ready.len());
        let number = self.ready.remove(place);
        Some(self.threads[&number].gate.clone())
    }

    /// Those whose time has come can go on.
    fn ring(&mut self, now: Instant) {
        while let Some(&(moment, number)) = self.alarms.first()
            && moment <= now
        {
            self.wake(number, true);
        }
    }

    fn wake(&mut self, number: Number, timed_out: bool) -> bool {
        let Some(thread) = self.threads.get_mut(&number) else { return false };
        let Some(Wait { until }) = thread.waits.take() else { return false };
        thread.timed_out = timed_out;
        if let Some(moment) = until {
            self.alarms.remove(&(moment, number));
        }
        self.ready.push(number);
        true
    }
}
