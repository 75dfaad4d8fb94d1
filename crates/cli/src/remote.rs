//! The way to workers in other processes.

use std::sync::Arc;

use inferring_client::{ClientConfig, RemoteWorker};
use inferring_gateway::{Connector, WorkerService};

/// Makes connections to the workers that a gateway names by their addresses.
pub(crate) fn connector(config: &ClientConfig) -> Connector {
    let config = config.clone();
    Box::new(move |address| {
        let worker = RemoteWorker::new(address, config.clone())?;
        Ok(Arc::new(worker) as Arc<dyn WorkerService>)
    })
}
