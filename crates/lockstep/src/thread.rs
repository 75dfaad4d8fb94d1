//! Threads of a simulation, in the form of `std::thread`.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use crate::condvar::Condvar;
use crate::kernel::{Gate, Place};

/// Stands for [`std::thread::Builder`].
#[derive(Debug, Default)]
pub struct Builder {
    name: Option<String>,
}

/// Stands for [`std::thread::JoinHandle`].
#[derive(Debug)]
pub struct JoinHandle<T> {
    ended: Arc<Ended<T>>,
}

#[derive(Debug)]
struct Ended<T> {
    result: parking_lot::Mutex<Option<std::thread::Result<T>>>,
    told: Condvar,
}

impl Builder {
    /// A thread without a name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names it.
    #[must_use]
    pub fn name(self, name: String) -> Self {
        Self { name: Some(name) }
    }

    /// Begins a thread of the simulation that the present thread belongs to. Random numbers that
    /// it draws from `fastrand` hang on the simulation's seed.
    ///
    /// # Errors
    /// The system's, where it starts no more threads.
    pub fn spawn<T: Send + 'static>(
        self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let kernel = Place::here().kernel;
        let ended = Arc::new(Ended { result: parking_lot::Mutex::new(None), told: Condvar::new() });
        let (place, placed) = sync_channel(1);
        let own = (kernel.clone(), ended.clone());
        let name = self.name.unwrap_or_default();
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            let (kernel, ended) = own;
            let (number, gate, seed): (_, Arc<Gate>, _) =
                placed.recv().expect("whoever starts it says who it is");
            gate.pass();
            Place { kernel: kernel.clone(), number: Some(number) }.enter();
            fastrand::seed(seed);
            let runtime = kernel.runtime.clone();
            let _clock = runtime.enter();
            let result = catch_unwind(AssertUnwindSafe(body));
            *ended.result.lock() = Some(result);
            ended.told.notify_all();
            kernel.end(number);
        })?;
        // Nobody waits for the system's own thread: it ends where its last turn does.
        let member = kernel.add(name, thread.thread().clone());
        place.send(member).expect("the thread waits for it");
        Ok(JoinHandle { ended })
    }
}

impl<T> JoinHandle<T> {
    /// Waits for the thread's end.
    ///
    /// # Errors
    /// What the thread panicked with.
    pub fn join(self) -> std::thread::Result<T> {
        let mut result = self.ended.result.lock();
        self.ended.told.wait_while(&mut result, |result| result.is_none());
        result.take().expect("it was waited for")
    }
}

/// Waits until that moment.
///
/// # Panics
/// On the runtime's thread, which never blocks, and in no simulation.
pub fn sleep_until(moment: Instant) {
    if crate::now() < moment {
        Place::here().wait(Some(moment));
    }
}
