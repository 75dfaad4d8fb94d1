//! Threads that serve connections, each with a runtime of its own.
//!
//! A connection stays on its thread, so nothing about it is ever shared, locked or woken across
//! threads. A new connection goes to the thread that has the fewest.
//!
//! Beside the connections each thread has a task of the node's (`InferenceService::attendant`).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::MissedTickBehavior;

use crate::clients::Place;
use crate::connection::{self, Serving};

/// A connection that was accepted, and its place under the limits of all and of its client.
pub(crate) struct Accepted {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) place: Place,
}

/// Running threads. They end when this is dropped and their connections have ended.
pub(crate) struct Threads(Vec<Thread>);

struct Thread {
    connections: Arc<AtomicUsize>,
    inbox: mpsc::Sender<Accepted>,
    handle: JoinHandle<()>,
}

impl Threads {
    /// Connections on their way to a thread at most.
    const INBOX_MAX: usize = 64;

    pub(crate) fn start(count: NonZeroUsize, serving: &Arc<Serving>) -> std::io::Result<Self> {
        let start_one = |index| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let attendant = serving.node.attendant();
            let (inbox, accepted) = mpsc::channel(Self::INBOX_MAX);
            let connections = Arc::new(AtomicUsize::new(0));
            let (counter, serving) = (connections.clone(), serving.clone());
            let handle =
                std::thread::Builder::new().name(format!("serve {index}")).spawn(move || {
                    attendant.map(|attendant| runtime.spawn(attendant));
                    runtime.block_on(serve(accepted, serving, counter));
                })?;
            Ok(Thread { connections, inbox, handle })
        };
        (0..count.get()).map(start_one).collect::<std::io::Result<_>>().map(Self)
    }

    /// Gives a connection to the thread with the fewest.
    pub(crate) async fn hand_over(&self, accepted: Accepted) {
        let least_loaded = self.0.iter().min_by_key(|t| t.connections.load(Ordering::Relaxed));
        let thread = least_loaded.expect("there is at least one thread");
        thread.connections.fetch_add(1, Ordering::Relaxed);
        // A thread's inbox closes only when the thread has ended, with the server.
        let _ = thread.inbox.send(accepted).await;
    }

    /// Takes no more connections and waits until those there are have ended.
    pub(crate) fn join(self) {
        let handles: Vec<_> = self.0.into_iter().map(|thread| thread.handle).collect();
        for handle in handles {
            // A panic has been reported on its own thread.
            let _ = handle.join();
        }
    }
}

/// A connection counted on its thread until this is dropped. A defect that panics must not leave
/// the thread looking busier than it is.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(
    mut inbox: mpsc::Receiver<Accepted>,
    serving: Arc<Serving>,
    count: Arc<AtomicUsize>,
) {
    let mut connections = tokio::task::JoinSet::new();
    let mut warming = tokio::task::JoinSet::new();
    warming.spawn(keep_warm(serving.clone()));
    loop {
        tokio::select! {
            accepted = inbox.recv() => {
                let Some(Accepted { stream, permit, place }) = accepted else { break };
                let (serving, counted) = (serving.clone(), Counted(count.clone()));
                connections.spawn(async move {
                    let _places = (permit, place, counted);
                    if let Ok(stream) = TcpStream::from_std(stream) {
                        connection::serve(stream, &serving).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Has the node ready on this thread for requests to come, for ever.
async fn keep_warm(serving: Arc<Serving>) {
    const INTERVAL: std::time::Duration = std::time::Duration::from_secs(4);
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        serving.node.keep_warm().await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use inferring_types::{
        BoxFuture, IndexEntry, InferRequest, InferResponse, InferenceService, LoadRequest,
        ModelConfig, ModelMetadata, ModelName, ModelRepository, ModelSelector, ModelStatistics,
        NodeStatus, ServiceError, StatusSource,
    };
    use tokio::sync::{Semaphore, watch};

    use super::*;
    use crate::clients::Clients;
    use crate::config::ServerConfig;
    use crate::connection::Stages;

    /// A node with a defect.
    struct Defective;

    impl InferenceService for Defective {
        fn models(&self) -> Vec<Arc<ModelMetadata>> {
            Vec::new()
        }

        fn model(&self, _: ModelSelector<'_>) -> Result<Arc<ModelMetadata>, ServiceError> {
            Err(ServiceError::not_found("none"))
        }

        fn is_ready(&self, _: Option<ModelSelector<'_>>) -> bool {
            false
        }

        fn infer(&self, _: InferRequest) -> BoxFuture<'_, Result<InferResponse, ServiceError>> {
            panic!("a defect")
        }
    }

    impl ModelRepository for Defective {
        fn index(&self) -> BoxFuture<'_, Result<Vec<IndexEntry>, ServiceError>> {
            panic!("a defect")
        }

        fn load(&self, _: LoadRequest) -> BoxFuture<'_, Result<(), ServiceError>> {
            panic!("a defect")
        }

        fn unload(&self, _: ModelName) -> BoxFuture<'_, Result<(), ServiceError>> {
            panic!("a defect")
        }

        fn config<'a>(
            &'a self,
            _: ModelSelector<'a>,
        ) -> BoxFuture<'a, Result<ModelConfig, ServiceError>> {
            panic!("a defect")
        }

        fn statistics<'a>(
            &'a self,
            _: Option<ModelSelector<'a>>,
        ) -> BoxFuture<'a, Result<Vec<ModelStatistics>, ServiceError>> {
            panic!("a defect")
        }
    }

    impl StatusSource for Defective {
        fn status(&self) -> BoxFuture<'_, Result<NodeStatus, ServiceError>> {
            panic!("a defect")
        }
    }

    #[tokio::test]
    async fn a_connection_that_panics_gives_its_place_back() {
        let (_close, closing) = watch::channel(false);
        let stages = Stages { leaving: closing.clone(), closing };
        let (node, config) = (Arc::new(Defective), ServerConfig::default());
        let serving = Arc::new(Serving::new(node, None, config, stages));
        let threads = Threads::start(NonZeroUsize::MIN, &serving).unwrap();
        let limit = Arc::new(Semaphore::new(1));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let permit = limit.clone().try_acquire_owned().unwrap();
        let clients = Clients::new(ServerConfig::default().client_limit());
        let place = clients.admit(client.local_addr().unwrap().ip()).unwrap();
        threads.hand_over(Accepted { stream, permit, place }).await;
        client.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        client.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        // Closed without an answer, one way or the other.
        let _ = client.read_to_end(&mut answer);
        assert_eq!(answer, b"");
        let connections = threads.0[0].connections.clone();
        threads.join();
        assert_eq!((connections.load(Ordering::Relaxed), limit.available_permits()), (0, 1));
    }
}
