//! Changes of a running gateway's workers: by a list that changes, and by operators.
//!
//! One change goes on at a time. Who joins is asked for its health before it can be asked for
//! anything else, so that the moment at which keys move is one at which their new place answers.
//! Who leaves keeps what it was sent.

use std::sync::Arc;

use inferring_types::{
    BoxFuture, MembershipStatus, NodeAdmin, ServiceError, WorkerChange, WorkerId, WorkerSpec,
};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, info};

use crate::clock;
use crate::config::GatewayConfig;
use crate::discovery::{self, MembershipSource};
use crate::endpoint::{Endpoint, Member, WorkerService};
use crate::gateway::Gateway;
use crate::membership::{Membership, MembershipError};
use crate::probe;
use crate::roster::{Reception, Roster};

/// Makes the service of a worker at an address: the way to it, which is not gone yet.
pub type Connector =
    Box<dyn Fn(&str) -> Result<Arc<dyn WorkerService>, ServiceError> + Send + Sync>;

/// What a gateway keeps for changing its workers.
pub(crate) struct Control {
    connect: Connector,
    /// Locked while a change is carried out.
    roster: tokio::sync::Mutex<Roster>,
    told: Mutex<Told>,
    /// The version of the membership in force.
    version: watch::Sender<u64>,
}

/// What the status page tells, which must not wait for a change to be carried out.
struct Told {
    source: String,
    reception: Reception,
}

/// A source that is followed until this is dropped.
pub struct Following {
    _task: JoinSet<()>,
}

impl Control {
    pub(crate) fn new(members: Vec<WorkerSpec>, connect: Connector) -> Self {
        let roster = Roster::new(members);
        let told = Told { source: roster.source().to_owned(), reception: Reception::default() };
        Self {
            connect,
            roster: tokio::sync::Mutex::new(roster),
            told: Mutex::new(told),
            version: watch::Sender::new(1),
        }
    }

    /// Tells of each change of the membership.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    pub(crate) fn status(&self, membership: &Membership) -> MembershipStatus {
        let told = self.told.lock();
        let status = MembershipStatus {
            version: membership.version(),
            fingerprint: membership.fingerprint(),
            source: told.source.clone(),
            age: clock::now().saturating_duration_since(membership.since()),
            error: None,
            failures: 0,
        };
        told.reception.tell(status)
    }

    fn receive(&self, outcome: Result<(), String>) {
        let mut told = self.told.lock();
        let source = told.source.clone();
        if let Err(error) = &outcome {
            error!(
                source,
                error, "the list of workers cannot be used: the last one stays in force"
            );
        }
        if told.reception.record(outcome) {
            info!(source, "the list of workers can be used again");
        }
    }
}

impl Gateway {
    /// A gateway over the workers of a list, which it reaches by `connect`, and so those that
    /// join later. It knows nothing of them until [`Self::start_probes`].
    ///
    /// # Errors
    /// [`MembershipError`] where they do not make a ring, or there is no way to one of them.
    pub fn from_list(
        workers: Vec<WorkerSpec>,
        config: GatewayConfig,
        connect: Connector,
    ) -> Result<Arc<Self>, MembershipError> {
        let members = workers.iter().map(|worker| member(worker, &connect));
        let members = members.collect::<Result<_, _>>()?;
        let gateway = Self::with_connector(members, config, connect)?;
        for (endpoint, worker) in gateway.membership().endpoints().iter().zip(&workers) {
            endpoint.become_as(worker);
        }
        let mut roster = gateway.control().roster.try_lock().expect("nobody else has it yet");
        *roster = Roster::new(workers);
        drop(roster);
        Ok(gateway)
    }

    /// Puts this list of workers in force. Workers that were on the one before keep all that is
    /// known of them; those that are new are probed first.
    ///
    /// # Errors
    /// [`MembershipError`] where that cannot be; then the list before stays in force.
    pub async fn apply(&self, workers: Vec<WorkerSpec>) -> Result<(), MembershipError> {
        let mut roster = self.control().roster.lock().await;
        let next = roster.listing(workers);
        self.put_in_force(&next).await?;
        *roster = next;
        Ok(())
    }

    /// Keeps to what `source` tells, until the result is dropped. A list that cannot be read or
    /// put in force is reported, and the one before stays.
    pub async fn follow(self: &Arc<Self>, mut source: Box<dyn MembershipSource>) -> Following {
        let control = self.control();
        let mut roster = control.roster.lock().await;
        *roster = roster.clone().decided_by(source.authority(), source.describe());
        control.told.lock().source = source.describe();
        drop(roster);
        let gateway = Arc::downgrade(self);
        let mut task = JoinSet::new();
        task.spawn(async move {
            loop {
                let list = source.next().await;
                let Some(gateway) = gateway.upgrade() else { return };
                let outcome = match list {
                    Ok(workers) => gateway.apply(workers).await.map_err(|e| discovery::chain(&e)),
                    Err(error) => Err(discovery::chain(&error)),
                };
                gateway.control().receive(outcome);
            }
        });
        Following { _task: task }
    }

    async fn change_roster(
        &self,
        next: impl FnOnce(&Roster) -> Result<Roster, ServiceError> + Send,
    ) -> Result<(), ServiceError> {
        let mut roster = self.control().roster.lock().await;
        let next = next(&roster)?;
        self.put_in_force(&next).await.map_err(|error| refused(&error))?;
        *roster = next;
        Ok(())
    }

    /// The caller holds the roster's lock.
    async fn put_in_force(&self, roster: &Roster) -> Result<(), MembershipError> {
        let before = self.membership();
        let workers = roster.wanted();
        let ring = Membership::ring(&workers, self.config())?;
        let mut joining = Vec::new();
        let mut endpoints = Vec::with_capacity(workers.len());
        for worker in &workers {
            let endpoint = match before.find(worker) {
                Some(endpoint) => endpoint.clone(),
                None => {
                    let endpoint = self.connect(worker)?;
                    joining.push(endpoint.clone());
                    endpoint
                }
            };
            endpoints.push(endpoint);
        }
        let is_same = joining.is_empty()
            && before.endpoints().len() == endpoints.len()
            && workers.iter().zip(&endpoints).all(|(worker, endpoint)| endpoint.is_as(worker));
        if is_same {
            return Ok(());
        }
        probe::probe_all(&joining, &self.config().probe).await;
        for (endpoint, worker) in endpoints.iter().zip(&workers) {
            endpoint.become_as(worker);
        }
        let version = before.version() + 1;
        let membership = Arc::new(Membership::new(version, ring, endpoints));
        self.set_membership(membership.clone());
        for endpoint in before.endpoints() {
            if !membership.endpoints().iter().any(|other| Arc::ptr_eq(other, endpoint)) {
                endpoint.leave();
            }
        }
        self.learn_models();
        self.control().version.send_replace(version);
        let (workers, fingerprint) = (workers.len(), membership.fingerprint());
        info!(version, workers, fingerprint, "workers changed");
        Ok(())
    }

    fn connect(&self, worker: &WorkerSpec) -> Result<Arc<Endpoint>, MembershipError> {
        let member = member(worker, &self.control().connect)?;
        Ok(Arc::new(Endpoint::new(member, self.config())))
    }
}

fn member(worker: &WorkerSpec, connect: &Connector) -> Result<Member, MembershipError> {
    let WorkerSpec { id, address, weight, .. } = worker.clone();
    match connect(&address) {
        Ok(service) => Ok(Member { id, address, weight, service }),
        Err(source) => Err(MembershipError::Connect { worker: id, source }),
    }
}

impl NodeAdmin for Gateway {
    fn set_draining(&self, draining: bool) {
        self.say_draining(draining);
    }

    fn add_worker(&self, worker: WorkerSpec) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(self.change_roster(move |roster| roster.adding(worker)))
    }

    fn remove_worker(&self, worker: WorkerId) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(self.change_roster(move |roster| roster.removing(&worker)))
    }

    fn change_worker(
        &self,
        worker: WorkerId,
        change: WorkerChange,
    ) -> BoxFuture<'_, Result<(), ServiceError>> {
        Box::pin(self.change_roster(move |roster| roster.changing(&worker, change)))
    }
}

/// What an operator reads whose change cannot be carried out.
fn refused(error: &MembershipError) -> ServiceError {
    ServiceError::invalid(discovery::chain(error))
}
