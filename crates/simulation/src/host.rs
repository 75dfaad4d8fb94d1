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

use crate::content::Content;
use crate::engine::{Engine, Machine};
use crate::faults::Fault;
use crate::models::Models;
use crate::scenario::Scenario;
use crate::sums::Sum;
use crate::trace::Trace;

/// A machine, with one worker process at a time.
pub(crate) struct Host {
    pub(crate) id: WorkerId,
    /// What it serves.
    pub(crate) contents: Models,
    /// Only where anybody asks for it.
    pub(crate) sums: Option<Models>,
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
    pub(crate) fn new(number: usize, scenario: &Scenario, trace: Arc<Trace>) -> Arc<Self> {
        let id = WorkerId::from(format!("worker_{number}").as_str());
        let config = scenario.worker.clone();
        let change = scenario.has(Fault::Replacement);
        let (state, thawed) = (Mutex::default(), Notify::new());
        let contents = Models::new(Content::MODEL, "", change);
        let sums = || Models::new(Sum::MODEL, Sum::CONFIG, change);
        let sums = (scenario.load.sequences > 0).then(sums);
        Arc::new(Self { id, contents, sums, config, trace, state, thawed })
    }

    /// All that it serves.
    pub(crate) fn models(&self) -> impl Iterator<Item = &Models> {
        std::iter::once(&self.contents).chain(&self.sums)
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
            let repository = Repository::open(host.models().map(Models::path));
            let repository = repository.expect("the folders are there");
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
            self.trace.note(format_args!("{} serves, process {}", self.id, process.number));
            for models in self.models() {
                let versions = process.versions(models.name());
                versions.iter().for_each(|version| models.is_served(*version));
            }
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

    /// Another version of one of its models takes the place of the one that is there, and is
    /// loaded: by a worker that looks at its folder, or because it is told to.
    pub(crate) async fn replace(&self, models: &Models, back: bool) {
        const PAUSE: Duration = Duration::from_millis(50);
        const LOOKS: u32 = 40;
        const LIMIT: Duration = Duration::from_secs(60);
        let Some(process) = self.process() else { return };
        let (version, name) = (models.replace(back), models.name());
        self.trace.note(format_args!("{} is given version {version} of {name}", self.id));
        let (began, mut looks) = (now(), if self.config.watch.is_some() { LOOKS } else { 0 });
        while now() - began < LIMIT {
            tokio::time::sleep(PAUSE).await;
            let is_present = self.process().is_some_and(|other| Arc::ptr_eq(&other, &process));
            if !is_present || models.present() != version {
                return;
            }
            if looks > 0 {
                looks -= 1;
            } else if let Err(error) = process.load(name).await {
                // A machine that fails is told so once more.
                self.trace.note(format_args!("{} does not load: {:?}", self.id, error.kind()));
                continue;
            }
            if process.versions(name) == [version] && !process.is_loading(name).await {
                self.trace.note(format_args!("{} serves version {version} of {name}", self.id));
                models.is_served(version);
                return;
            }
        }
        self.trace.violation(format_args!("{} never serves version {version} of {name}", self.id));
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
    /// The versions of a model that it serves.
    pub(crate) fn versions(&self, name: &str) -> Vec<u64> {
        let models = self.worker.models().into_iter().filter(|model| model.name.as_str() == name);
        models.filter_map(|model| model.version.number()).collect()
    }

    /// Loads a model as it is on the disk now.
    async fn load(&self, name: &str) -> Result<(), ServiceError> {
        let model = name.parse().expect("a name");
        self.worker.load(LoadRequest { model, config: None, files: Vec::new() }).await
    }

    /// Whether a version is on its way, which may not be on the disk any more.
    async fn is_loading(&self, name: &str) -> bool {
        self.states(name).await.contains(&ModelState::Loading)
    }

    /// The states of all versions of a model that are not just known.
    pub(crate) async fn states(&self, name: &str) -> Vec<ModelState> {
        let index = self.worker.index().await.unwrap_or_default().into_iter();
        let states = index.filter(|entry| entry.name.as_str() == name).map(|entry| entry.state);
        states.filter(|state| *state != ModelState::Unavailable).collect()
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
