//! Sockets on which a service manager listens for this process, as systemd hands them over.
//!
//! The manager listens on when this process ends. Who connects while the next one starts waits in the
//! system's queue and is refused by nobody.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use anyhow::{Context, bail};

/// The sockets, by what is served on them.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// For clients.
    pub(crate) http: Vec<OwnedFd>,
    /// For clients that expect gRPC on a port of its own.
    pub(crate) grpc: Vec<OwnedFd>,
    /// For operators.
    pub(crate) admin: Vec<OwnedFd>,
}

impl Inherited {
    /// Takes what was handed over: called once, before this process has opened anything itself.
    ///
    /// # Errors
    /// Where what was announced did not come, or it is not known what it is for.
    pub(crate) fn take() -> anyhow::Result<Self> {
        let announced = sd_notify::listen_fds_with_names().context(
            "the service manager announces other sockets (LISTEN_FDS, LISTEN_FDNAMES) than it has \
             handed over",
        )?;
        let announced: Vec<_> = announced.collect();
        // Owned from here on, whatever comes of them.
        let sockets: Vec<_> = announced.into_iter().map(|(fd, name)| (owned(fd), name)).collect();
        Self::by_name(sockets, std::env::var_os("LISTEN_FDNAMES").is_some())
    }

    fn by_name(sockets: Vec<(OwnedFd, String)>, are_named: bool) -> anyhow::Result<Self> {
        let mut inherited = Self::default();
        let is_one = sockets.len() == 1;
        for (socket, name) in sockets {
            match name.as_str() {
                "http" => inherited.http.push(socket),
                "grpc" => inherited.grpc.push(socket),
                "admin" => inherited.admin.push(socket),
                // From whoever knows no names.
                _ if is_one && !are_named => inherited.http.push(socket),
                _ => bail!(
                    "it is not known what the socket `{name}` of the service manager is for: \
                     expected `http`, `grpc` or `admin` (FileDescriptorName= in its socket unit, \
                     LISTEN_FDNAMES otherwise)"
                ),
            }
        }
        Ok(inherited)
    }
}

fn owned(fd: RawFd) -> OwnedFd {
    #[expect(unsafe_code, reason = "descriptors are handed over by their numbers")]
    // SAFETY: it is open, as that was looked at when it was set to be closed on exec, and it is
    // nobody else's: this process was handed it at its start and has opened nothing since.
    unsafe {
        OwnedFd::from_raw_fd(fd)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// How many there are for whom, or what is wrong.
    fn sorted(names: &[&str], are_named: bool) -> Result<[usize; 3], String> {
        let socket = || OwnedFd::from(File::open("/dev/null").unwrap());
        let sockets = names.iter().map(|name| (socket(), (*name).to_owned())).collect();
        let inherited = Inherited::by_name(sockets, are_named).map_err(|e| e.to_string())?;
        let Inherited { http, grpc, admin } = inherited;
        Ok([http.len(), grpc.len(), admin.len()])
    }

    #[test]
    fn each_socket_is_for_what_its_name_says() {
        assert_eq!(sorted(&[], false), Ok([0, 0, 0]));
        assert_eq!(sorted(&["http"], true), Ok([1, 0, 0]));
        assert_eq!(sorted(&["admin", "http", "grpc", "http"], true), Ok([2, 1, 1]));
    }

    #[test]
    fn one_without_a_name_is_for_clients_and_of_several_that_is_not_known() {
        assert_eq!(sorted(&["unknown"], false), Ok([1, 0, 0]));
        for (names, are_named) in [(&["unknown", "unknown"][..], false), (&["web"], true)] {
            let error = sorted(names, are_named).unwrap_err();
            assert!(error.contains("expected `http`, `grpc` or `admin`"), "{error}");
        }
    }
}
