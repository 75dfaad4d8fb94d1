//! A gateway and its workers, each a process of its own.

use std::path::{Path, PathBuf};

use crate::client::Client;
use crate::folder::ModelFolder;
use crate::models;
use crate::ports::HeldPort;
use crate::process::{Launch, Process};
use crate::proxy::FaultProxy;
use crate::waiting::{LONG, wait_until};

/// What to start.
#[derive(Debug, Clone)]
pub struct ClusterPlan {
    program: PathBuf,
    models: Vec<PathBuf>,
    /// One for each worker, beside `models`.
    folders: Vec<PathBuf>,
    workers: usize,
    worker_settings: Vec<String>,
    gateway_settings: Vec<String>,
    is_proxied: bool,
}

impl ClusterPlan {
    /// Three workers with the iris classifier, and a gateway.
    pub fn new(program: impl AsRef<Path>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            models: vec![models::iris()],
            folders: Vec::new(),
            workers: 3,
            worker_settings: Vec::new(),
            gateway_settings: Vec::new(),
            is_proxied: false,
        }
    }

    /// The same with these models in every worker.
    #[must_use]
    pub fn models(self, models: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { models: models.into_iter().collect(), ..self }
    }

    /// One worker for each of these folders of models, which serves it and nothing else.
    #[must_use]
    pub fn folders<'a>(self, folders: impl IntoIterator<Item = &'a ModelFolder>) -> Self {
        let folders: Vec<_> = folders.into_iter().map(|f| f.path().to_owned()).collect();
        Self { models: Vec::new(), workers: folders.len(), folders, ..self }
    }

    /// The same with so many workers.
    #[must_use]
    pub fn workers(self, workers: usize) -> Self {
        Self { workers, ..self }
    }

    /// The same with a setting (`key=value`) of every worker.
    #[must_use]
    pub fn worker_setting(mut self, setting: &str) -> Self {
        self.worker_settings.push(setting.to_owned());
        self
    }

    /// The same with a setting (`key=value`) of the gateway.
    #[must_use]
    pub fn gateway_setting(mut self, setting: &str) -> Self {
        self.gateway_settings.push(setting.to_owned());
        self
    }

    /// The same with a proxy before each worker, through which the gateway reaches it.
    #[must_use]
    pub fn behind_proxies(self) -> Self {
        Self { is_proxied: true, ..self }
    }

    /// Starts the workers, and when all take requests, the gateway.
    #[track_caller]
    pub fn start(&self) -> Cluster {
        let mut cluster = self.start_gateway_later();
        let mut workers: Vec<_> = cluster.launches.iter().map(Launch::spawn).collect();
        for worker in &mut workers {
            worker.wait_until_ready();
        }
        cluster.workers = workers.into_iter().map(Some).collect();
        cluster.start_gateway();
        cluster
    }

    /// Decides on all addresses and starts nothing yet.
    pub fn start_gateway_later(&self) -> Cluster {
        let ports: Vec<_> = (0..self.workers).map(|_| HeldPort::any()).collect();
        let launches = ports.iter().zip(1..).map(|(port, number)| {
            Launch::new(&self.program, ["worker"])
                .args(&self.models)
                .args(self.folders.get(number - 1))
                .args(["--id", &format!("worker_{number}")])
                .args(["--listen", &port.address().to_string()])
                .set(&self.worker_settings)
        });
        let launches = launches.collect();
        let proxied = ports.iter().filter(|_| self.is_proxied);
        let proxies: Vec<_> = proxied.map(|port| FaultProxy::start(port.address())).collect();
        let reached: Vec<_> = match &proxies[..] {
            [] => ports.iter().map(HeldPort::address).collect(),
            proxies => proxies.iter().map(FaultProxy::address).collect(),
        };
        let places = reached.iter().zip(1..).map(|(address, n)| format!("worker_{n}={address}"));
        let port = HeldPort::any();
        let gateway = Launch::new(&self.program, ["gateway"])
            .args(places)
            .args(["--listen", &port.address().to_string()])
            .set(&self.gateway_settings);
        Cluster {
            workers: ports.iter().map(|_| None).collect(),
            launches,
            gateway: None,
            gateway_launch: gateway,
            proxies,
            _ports: ports.into_iter().chain([port]).collect(),
        }
    }
}

/// Running processes; those that were not started yet have only their address.
pub struct Cluster {
    workers: Vec<Option<Process>>,
    launches: Vec<Launch>,
    gateway: Option<Process>,
    gateway_launch: Launch,
    proxies: Vec<FaultProxy>,
    _ports: Vec<HeldPort>,
}

impl Cluster {
    /// Starts the gateway and waits until it takes requests.
    #[track_caller]
    pub fn start_gateway(&mut self) {
        self.gateway = Some(self.gateway_launch.start());
    }

    /// Starts a worker (the first is 1) for the first time, or again, without waiting for it.
    pub fn spawn_worker(&mut self, number: usize) {
        // The one before is dropped, and so dead, before the next one wants its port.
        self.workers[number - 1] = None;
        self.workers[number - 1] = Some(self.launches[number - 1].spawn());
    }

    /// The gateway.
    ///
    /// # Panics
    /// Where it was not started.
    #[track_caller]
    pub fn gateway(&self) -> &Process {
        self.gateway.as_ref().expect("the gateway was started")
    }

    /// The gateway, to end it.
    ///
    /// # Panics
    /// Where it was not started.
    #[track_caller]
    pub fn gateway_mut(&mut self) -> &mut Process {
        self.gateway.as_mut().expect("the gateway was started")
    }

    /// A new client of the gateway.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.gateway().client()
    }

    /// A worker; the first is 1, and its id is `worker_1`.
    ///
    /// # Panics
    /// Where it was not started.
    #[track_caller]
    pub fn worker(&self, number: usize) -> &Process {
        self.workers[number - 1].as_ref().expect("the worker was started")
    }

    /// The proxy before a worker.
    ///
    /// # Panics
    /// Where the plan has none.
    #[track_caller]
    pub fn proxy(&self, number: usize) -> &FaultProxy {
        &self.proxies[number - 1]
    }

    /// A worker, to end it.
    ///
    /// # Panics
    /// Where it was not started.
    #[track_caller]
    pub fn worker_mut(&mut self, number: usize) -> &mut Process {
        self.workers[number - 1].as_mut().expect("the worker was started")
    }

    /// The sum over all running workers of a counter in their health documents, such as
    /// `batch_processor/total_batches`.
    #[track_caller]
    pub fn sum(&self, counter: &str) -> u64 {
        let pointer = format!("/{counter}");
        let count = |worker: &Process| {
            let health = worker.client().health();
            health.pointer(&pointer).and_then(serde_json::Value::as_u64).expect("a counter")
        };
        self.workers.iter().flatten().map(count).sum()
    }

    /// Waits until the gateway reaches exactly so many workers.
    #[track_caller]
    pub fn wait_until_reachable(&self, workers: u64) {
        let client = self.client();
        wait_until(&format!("{workers} workers are reachable"), LONG, || {
            client.stats()["reachable_workers"] == workers
        });
    }

    /// The state of every worker's breaker, by worker.
    #[track_caller]
    pub fn breakers(&self) -> Vec<(String, String)> {
        let stats = self.client().stats();
        let breakers = stats["circuit_breakers"].as_array().expect("an array");
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        breakers.iter().map(|breaker| (text(&breaker["node"]), text(&breaker["state"]))).collect()
    }

    /// Sees that every breaker lets traffic flow.
    ///
    /// # Panics
    /// Where one does not.
    #[track_caller]
    pub fn assert_breakers_closed(&self) {
        let breakers = self.breakers();
        assert_eq!(breakers.len(), self.workers.len());
        assert!(breakers.iter().all(|(_, state)| state == "CLOSED"), "{breakers:?}");
    }
}
