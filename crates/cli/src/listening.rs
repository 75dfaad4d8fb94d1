//! Where a node listens: for its clients, and for its operators.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::Context;
use inferring_server::Server;
use tracing::warn;

use crate::config::{Config, Overrides};
use crate::inherited::Inherited;

/// What the serving commands understand about where they listen.
#[derive(Debug, clap::Args)]
pub(crate) struct ListenFlags {
    /// Where to listen; port 0 takes any free port. A socket that a service manager hands over (as
    /// systemd does) goes before it.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Where to listen besides, for clients that expect gRPC on a port of its own. Both ports
    /// answer gRPC and REST.
    #[arg(long, value_name = "HOST:PORT")]
    grpc_listen: Option<String>,
    /// Where to listen for operators, who may drain this node, change a gateway's workers and
    /// load models: on this machine's loopback, such as 127.0.0.1:8009. Nowhere by default.
    #[arg(long, value_name = "HOST:PORT")]
    admin_listen: Option<String>,
}

impl ListenFlags {
    /// Adds what was given to the settings of the command line; `listen` is of this key.
    pub(crate) fn over(self, settings: Overrides, listen: &'static str) -> Overrides {
        settings
            .with(listen, self.listen)
            .with("listen.grpc", self.grpc_listen)
            .with("listen.admin", self.admin_listen)
    }
}

/// Bound addresses.
pub(crate) struct Listeners {
    pub(crate) clients: Server,
    pub(crate) operators: Option<Server>,
}

impl Listeners {
    /// Binds where to listen, and where to listen besides. A socket that was handed over takes the
    /// place of the address that is set.
    pub(crate) fn bind(
        address: &str,
        config: &Config,
        inherited: Inherited,
    ) -> anyhow::Result<Self> {
        let Inherited { http, grpc, admin } = inherited;
        let mut clients = match inherit(http, "http")? {
            Some(inherited) => inherited,
            None => Server::bind(address)?,
        };
        match (inherit(grpc, "grpc")?, &config.listen.grpc) {
            (Some(inherited), _) => clients = clients.and(inherited),
            (None, Some(address)) => clients = clients.and_bind(address)?,
            (None, None) => {}
        }
        let operators = match (inherit(admin, "admin")?, &config.listen.admin) {
            (None, Some(address)) => Some(Server::bind(address).context("setting `listen.admin`")?),
            (inherited, _) => inherited,
        };
        if let Some(address) = operators.as_ref().map(Server::local_addr)
            && !address.ip().is_loopback()
        {
            let what = "whoever reaches the admin listener may change this node";
            warn!(%address, "{what}: it asks for no password");
        }
        Ok(Self { clients, operators })
    }

    /// The address for clients that is told first.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.clients.local_addr()
    }

    /// Where that is.
    pub(crate) fn places(&self) -> Places {
        Places {
            first: self.local_addr(),
            further: self.clients.further_addrs().collect(),
            operators: self.operators.as_ref().map(Server::local_addr),
        }
    }
}

/// The addresses at which a node is reached.
pub(crate) struct Places {
    first: SocketAddr,
    further: Vec<SocketAddr>,
    operators: Option<SocketAddr>,
}

impl Places {
    /// Writes the line for which scripts wait.
    pub(crate) fn announce(&self, what: &str, detail: &str) {
        let mut out = std::io::stdout().lock();
        // Nobody may be reading; that is no reason to stop.
        let _ = write!(out, "{what} ready on http://{} {detail}", self.first);
        for address in &self.further {
            let _ = write!(out, ", also on http://{address}");
        }
        if let Some(address) = &self.operators {
            let _ = write!(out, ", admin on http://{address}");
        }
        let _ = writeln!(out);
        let _ = out.flush();
    }
}

/// The sockets of that name which were handed over, if any were.
fn inherit(sockets: Vec<OwnedFd>, name: &str) -> anyhow::Result<Option<Server>> {
    let mut servers = Vec::new();
    for socket in sockets {
        let server = Server::inherit(socket);
        servers.push(server.with_context(|| format!("socket `{name}` of the service manager"))?);
    }
    Ok(servers.into_iter().reduce(Server::and))
}
