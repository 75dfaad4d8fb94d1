//! The ways in which one folder of models is served; clients cannot tell them apart.

use inferring_integration_tests::client::Client;
use inferring_integration_tests::cluster::Cluster;
use inferring_integration_tests::folder::ModelFolder;
use inferring_integration_tests::process::Process;

use crate::{cluster, serving};

/// A folder that is served in one of the ways.
pub(crate) struct Way {
    /// Which one, for what a failing test says.
    pub(crate) name: &'static str,
    pub(crate) client: Client,
    _processes: (Option<Process>, Option<Cluster>),
}

/// A lone worker, a gateway over three workers, and one process that is all of it, each over the
/// same folder. They are started when their turn comes.
pub(crate) fn all(folder: &ModelFolder) -> impl Iterator<Item = Way> {
    let starts: [fn(&ModelFolder) -> Way; 3] = [worker, gateway, serve];
    starts.into_iter().map(move |start| start(folder))
}

fn worker(folder: &ModelFolder) -> Way {
    let process = serving("worker").arg(folder.path()).start();
    Way { name: "worker", client: process.client(), _processes: (Some(process), None) }
}

fn gateway(folder: &ModelFolder) -> Way {
    let cluster = cluster().folders([folder; 3]).start();
    Way { name: "gateway", client: cluster.client(), _processes: (None, Some(cluster)) }
}

fn serve(folder: &ModelFolder) -> Way {
    let process = serving("serve").arg(folder.path()).args(["--workers", "3"]).start();
    Way { name: "serve", client: process.client(), _processes: (Some(process), None) }
}
