//! A machine with a worker on it: a process that starts, is killed, is stopped, and hangs.

use std::sync::Arc;
use std::time::Duration;

use inferring_lockstep::{Builder, now};
use inferring_repository::Repository;
use inferring_types::{
    InferRequest, InferResponse, InferenceService as _, LoadRequest, ModelRepository as _,
    ModelState, ServiceError, WorkerId,
};
use inferring_worker_simulated::{Worker, WorkerConfig};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use crate::engine::{Engine, Machine};
use crate::models::Models;
use crate::trace::Trace;

/// A machine, with one worker process at a time.
pub(crate) struct Host {
    pub(crate) id: WorkerId,
    pub(crate) models: Models,
    config: WorkerConfig,
    trace: Arc<Trace>,
    state: Mutex<State>,
    thawed: Notify,
}

#[derive(Default)]
struct State {
    process: Option<Arc<Process>>,
    /// How many processes were started.
    started: u64,
    /// Whether the present one is on its way to serve, or serves.
    is_on: bool,
    /// The process is there, and nothing in it moves.
    is_frozen: bool,
}

/// A worker's process.
pub(crate) struct Process {
    pub(crate) worker: Arc<Worker>,
    pub(crate) machine: Arc<Machine>,
    number: u64,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Host {
    pub(crate) fn new(
        id: WorkerId,
        models: Models,
        config: WorkerConfig,
        trace: Arc<Trace>,
    ) -> Arc<Self> {
        let (state, thawed) = (Mutex::default(), Notify::new());
        Arc::new(Self { id, models, config, trace, state, thawed })
    }

    /// Starts a process, unless there is one. It serves when it has loaded its model.
    pub(crate) fn boot(self: &Arc<Self>) {
        let number = {
            let mut state = self.state.lock();
            if state.is_on {
                return;
            }
            state.is_on = true;
            state.started += 1;
            state.started
        };
        let host = self.clone();
        let boot = move || {
            let machine = Arc::new(Machine::default());
            let repository = Repository::open([host.models.path()]);
            let repository = repository.expect("the folder is there");
            let engine = Arc::new(Engine { machine: machine.clone() });
            let worker = Worker::start(host.id.clone(), repository, engine, &host.config);
            let worker = worker.expect("the model loads");
            let tasks = Mutex::default();
            host.serve(Arc::new(Process { worker, machine, number, tasks }));
        };
        start_thread(format!("boot {}", self.id), boot);
    }

    /// Puts a process that has started where requests find it, unless it was killed meanwhile.
    fn serve(&self, process: Arc<Process>) {
        let mut state = self.state.lock();
        if state.is_on && state.started == process.number {
            let versions = process.versions();
            let number = process.number;
            self.trace.note(format_args!("{} serves {versions:?}, process {number}", self.id));
            versions.iter().for_each(|version| self.models.is_served(*version));
            state.process = Some(process);
        } else {
            drop(state);
            process.end();
        }
    }

    /// Kills the process: what it was asked is not answered.
    pub(crate) fn crash(&self) {
        if let Some(process) = self.take() {
            self.trace.note(format_args!("{} crashes", self.id));
            process.kill();
        }
    }

    /// Stops the process as an operator does: first it says so, then it finishes what it has.
    pub(crate) async fn stop(&self, grace: Duration) {
        let Some(process) = self.process() else { return };
        self.trace.note(format_args!("{} drains", self.id));
        process.worker.start_draining();
        tokio::time::sleep(grace).await;
        let mut state = self.state.lock();
        if state.process.as_ref().is_some_and(|present| present.number == process.number) {
            state.process = None;
            state.is_on = false;
            drop(state);
            self.trace.note(format_args!("{} stops", self.id));
            process.end_on_a_thread();
        }
    }

    /// Another version takes the place of the one that is there, and is loaded: by a worker that
    /// looks at its folder, or because it is told to.
    pub(crate) async fn replace_model(&self, back: bool) {
        const PAUSE: Duration = Duration::from_millis(50);
        const LOOKS: u32 = 40;
        const LIMIT: Duration = Duration::from_secs(60);
        let Some(process) = self.process() else { return };
        let version = self.models.replace(back);
        self.trace.note(format_args!("{} is given version {version}", self.id));
        let (began, mut looks) = (now(), if self.config.watch.is_some() { LOOKS } else { 0 });
        while now() - began < LIMIT {
            tokio::time::sleep(PAUSE).await;
            let is_present = self.process().is_some_and(|other| Arc::ptr_eq(&other, &process));
            if !is_present || self.models.present() != version {
                return;
            }
            if looks > 0 {
                looks -= 1;
            } else if let Err(error) = process.load().await {
                // A machine that fails is told so once more.
                self.trace.note(format_args!("{} does not load: {:?}", self.id, error.kind()));
                continue;
            }
            if process.versions() == [version] && !process.is_loading().await {
                self.trace.note(format_args!("{} serves version {version}", self.id));
                self.models.is_served(version);
                return;
            }
        }
        self.trace.violation(format_args!("{} never serves version {version}", self.id));
    }

    /// Nothing in the process moves from now on, or moves again.
    pub(crate) fn freeze(&self, is_frozen: bool) {
        self.trace.note(format_args!(
            "{} is {}",
            self.id,
            if is_frozen { "frozen" } else { "thawed" }
        ));
        self.state.lock().is_frozen = is_frozen;
        self.thawed.notify_waiters();
    }

    /// Comes back when it moves.
    pub(crate) async fn thawed(&self) {
        loop {
            let thawed = self.thawed.notified();
            if !self.state.lock().is_frozen {
                return;
            }
            thawed.await;
        }
    }

    /// The process that serves.
    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        self.state.lock().process.clone()
    }

    fn take(&self) -> Option<Arc<Process>> {
        let mut state = self.state.lock();
        state.is_on = false;
        state.process.take()
    }
}

impl Process {
    /// The versions of the model that it serves.
    pub(crate) fn versions(&self) -> Vec<u64> {
        self.worker.models().iter().filter_map(|model| model.version.number()).collect()
    }

    /// Loads the model as it is on the disk now.
    async fn load(&self) -> Result<(), ServiceError> {
        let model = "model".parse().expect("a name");
        self.worker.load(LoadRequest { model, config: None, files: Vec::new() }).await
    }

    /// Whether a version is on its way, which may not be on the disk any more.
    async fn is_loading(&self) -> bool {
        let index = self.worker.index().await.unwrap_or_default();
        index.iter().any(|entry| entry.state == ModelState::Loading)
    }

    /// Answers a request for whoever is at the other end of a connection, until that is closed.
    pub(crate) fn accept(
        &self,
        request: InferRequest,
    ) -> (oneshot::Receiver<Result<InferResponse, ServiceError>>, AbortHandle) {
        let (answer, answered) = oneshot::channel();
        let worker = self.worker.clone();
        let task = tokio::spawn(async move {
            let result = worker.infer(request).await;
            // The connection may be gone.
            let _ = answer.send(result);
        });
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.abort_handle());
        (answered, task.abort_handle())
    }

    fn kill(self: &Arc<Self>) {
        self.machine.kill();
        self.tasks.lock().drain(..).for_each(|task| task.abort());
        self.end_on_a_thread();
    }

    /// Ends the worker, on a thread that may wait for that.
    pub(crate) fn end_on_a_thread(self: &Arc<Self>) {
        let process = self.clone();
        start_thread("end".to_owned(), move || process.end());
    }

    /// Waits for what the worker began. Nobody sees that any more where it was killed.
    fn end(&self) {
        self.worker.close();
    }
}

fn start_thread(name: String, body: impl FnOnce() + Send + 'static) {
    Builder::new().name(name).spawn(body).expect("the system has threads");
}
