//! What this machine tells of itself: which `inferring` processes run, and who listens where.
//!
//! It is read from `/proc`; nothing is sent to anyone. Another user's process shows less, so
//! every detail may be missing.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

/// The files under which the system shows its processes.
pub(super) struct System {
    root: PathBuf,
    own_pid: u32,
}

/// A running process of this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Its command line; empty where it cannot be read.
    pub(super) command: String,
    /// Whether it is stopped: by SIGSTOP, Ctrl-Z or a debugger.
    pub(super) stopped: bool,
    /// Where it listens, as far as that can be read.
    pub(super) listens: Vec<SocketAddr>,
}

/// A socket that accepts connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    /// The user that opened it, by number.
    pub(super) user: u32,
    inode: u64,
}

/// The process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) pid: u32,
    /// The name of its program.
    pub(super) name: String,
    pub(super) stopped: bool,
}

impl Owner {
    /// Whether it runs this program.
    pub(super) fn is_ours(&self) -> bool {
        self.name == PROGRAM
    }
}

const PROGRAM: &str = env!("CARGO_BIN_NAME");

impl System {
    /// This machine.
    pub(super) fn of_this_machine() -> Self {
        Self { root: PathBuf::from("/proc"), own_pid: std::process::id() }
    }

    /// The other processes of this program, by number.
    ///
    /// # Errors
    /// Where the system shows no processes.
    pub(super) fn processes(&self) -> io::Result<Vec<Process>> {
        let listeners = self.listeners().unwrap_or_default();
        let ours = self.pids()?.into_iter().filter(|pid| *pid != self.own_pid);
        Ok(ours.filter_map(|pid| self.process(pid, &listeners)).collect())
    }

    /// Every TCP socket that listens in this network namespace.
    ///
    /// # Errors
    /// Where the system does not show its sockets.
    pub(super) fn listeners(&self) -> io::Result<Vec<Listener>> {
        let mut found = parse_listeners(&fs::read_to_string(self.root.join("net/tcp"))?);
        // Missing where IPv6 is switched off.
        let v6 = fs::read_to_string(self.root.join("net/tcp6")).unwrap_or_default();
        found.extend(parse_listeners(&v6));
        Ok(found)
    }

    /// The process that holds a listener; `None` where that cannot be read.
    pub(super) fn owner(&self, listener: &Listener) -> Option<Owner> {
        let holds = |pid: &u32| self.sockets(*pid).contains(&listener.inode);
        let pid = self.pids().ok()?.into_iter().find(holds)?;
        Some(Owner { pid, name: self.program(pid)?, stopped: is_stopped(self.state(pid)?) })
    }

    /// Whether a driver for NVIDIA's devices is at work.
    pub(super) fn has_nvidia_driver(&self) -> bool {
        self.root.join("driver/nvidia/version").exists()
    }

    fn process(&self, pid: u32, listeners: &[Listener]) -> Option<Process> {
        if self.program(pid)? != PROGRAM {
            return None;
        }
        let state = self.state(pid)?;
        if matches!(state, b'Z' | b'X') {
            return None;
        }
        let sockets = self.sockets(pid);
        let held = listeners.iter().filter(|listener| sockets.contains(&listener.inode));
        Some(Process {
            pid,
            command: self.command(pid).join(" "),
            stopped: is_stopped(state),
            listens: held.map(|listener| listener.address).collect(),
        })
    }

    fn pids(&self) -> io::Result<Vec<u32>> {
        let entries = fs::read_dir(&self.root)?.flatten();
        let mut pids: Vec<u32> =
            entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// The file name of the program that runs; by what it calls itself where the file is hidden.
    fn program(&self, pid: u32) -> Option<String> {
        let name = |path: &Path| path.file_name().map(OsStr::to_string_lossy).map(String::from);
        if let Ok(file) = fs::read_link(self.folder(pid).join("exe")) {
            // The file may have been replaced by a newer build.
            return name(&file).map(|name| name.trim_end_matches(" (deleted)").to_owned());
        }
        match self.command(pid).first() {
            Some(first) => name(Path::new(first)),
            None => Some(fs::read_to_string(self.folder(pid).join("comm")).ok()?.trim().to_owned()),
        }
    }

    fn command(&self, pid: u32) -> Vec<String> {
        let bytes = fs::read(self.folder(pid).join("cmdline")).unwrap_or_default();
        let words = bytes.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
    }

    /// The letter of its state: `R` running, `S` sleeping, `T` stopped, `Z` a zombie, and others.
    fn state(&self, pid: u32) -> Option<u8> {
        let text = fs::read_to_string(self.folder(pid).join("stat")).ok()?;
        // The name before it stands in parentheses and may itself hold some.
        let (_, after_name) = text.rsplit_once(") ")?;
        after_name.bytes().next()
    }

    fn sockets(&self, pid: u32) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(self.folder(pid).join("fd")) else { return Vec::new() };
        let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter_map(|link| socket_inode(&link)).collect()
    }

    fn folder(&self, pid: u32) -> PathBuf {
        self.root.join(pid.to_string())
    }
}

/// Whether an address belongs to this machine.
pub(super) fn is_local(ip: IpAddr) -> bool {
    // Binding succeeds on own addresses only, and sends nothing.
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

/// The listener among `all` that takes connections to `address`.
pub(super) fn listener_at(all: &[Listener], address: SocketAddr) -> Option<&Listener> {
    let takes = |listener: &&Listener| {
        let ip = listener.address.ip().to_canonical();
        // `::` takes IPv4 as well, unless told otherwise, which is not shown.
        let everywhere = ip.is_unspecified() && (ip.is_ipv6() || address.is_ipv4());
        listener.address.port() == address.port() && (ip == address.ip() || everywhere)
    };
    all.iter().filter(takes).min_by_key(|listener| listener.address.ip().is_unspecified())
}

/// By a signal, or by a debugger.
fn is_stopped(state: u8) -> bool {
    matches!(state, b'T' | b't')
}

fn socket_inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// Reads a table of sockets in the form of `/proc/net/tcp`.
fn parse_listeners(table: &str) -> Vec<Listener> {
    const LISTEN: &str = "0A";
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, LISTEN, _, _, _, user, _, inode, ..] = fields[..] else { return None };
        let (ip, port) = local.split_once(':')?;
        Some(Listener {
            address: SocketAddr::new(parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?),
            user: user.parse().ok()?,
            inode: inode.parse().ok()?,
        })
    };
    table.lines().skip(1).filter_map(parse).collect()
}

/// An address as words of 32 bits in hexadecimal, each in the byte order of this machine.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = text.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let bytes: Vec<u8> = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const HEADER: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when ...\n";

    /// A folder that looks as `/proc` does.
    struct Machine(TempDir);

    impl Machine {
        fn new(tcp: &str) -> Self {
            let folder = TempDir::new().unwrap();
            fs::create_dir(folder.path().join("net")).unwrap();
            fs::write(folder.path().join("net/tcp"), format!("{HEADER}{tcp}")).unwrap();
            Self(folder)
        }

        fn process(&self, pid: u32, exe: Option<&str>, stat: &str, command: &str, inodes: &[u64]) {
            let folder = self.0.path().join(pid.to_string());
            fs::create_dir_all(folder.join("fd")).unwrap();
            fs::write(folder.join("stat"), format!("{pid} {stat} 1 1 0")).unwrap();
            fs::write(folder.join("cmdline"), command.replace(' ', "\0")).unwrap();
            if let Some(exe) = exe {
                symlink(exe, folder.join("exe")).unwrap();
            }
            for (number, inode) in inodes.iter().enumerate() {
                symlink(format!("socket:[{inode}]"), folder.join("fd").join(number.to_string()))
                    .unwrap();
            }
        }

        fn system(&self) -> System {
            System { root: self.0.path().to_owned(), own_pid: 1 }
        }
    }

    #[test]
    fn processes_of_this_program_are_found_by_their_file_and_with_their_state() {
        let machine = Machine::new(
            "   0: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 \
             0 77 1 0000000000000000 100 0 0 10 0\n",
        );
        let exe = Some("/opt/bin/inferring");
        machine.process(1, exe, "(inferring) R", "inferring doctor", &[]);
        machine.process(7, exe, "(in) (ferring) S", "/opt/bin/inferring serve m.onnx", &[76, 77]);
        machine.process(8, Some("/x/inferring (deleted)"), "(x) T", "inferring worker", &[]);
        machine.process(9, Some("/bin/vim"), "(vim) S", "vim inferring", &[]);
        machine.process(10, exe, "(inferring) Z", "", &[]);
        machine.process(11, None, "(inferring) S", "/y/inferring gateway", &[]);
        let process = |pid, command: &str, stopped, listens: &[SocketAddr]| Process {
            pid,
            command: command.to_owned(),
            stopped,
            listens: listens.to_vec(),
        };
        assert_eq!(
            machine.system().processes().unwrap(),
            [
                process(
                    7,
                    "/opt/bin/inferring serve m.onnx",
                    false,
                    &[([127, 0, 0, 1], 8001).into()],
                ),
                process(8, "inferring worker", true, &[]),
                process(11, "/y/inferring gateway", false, &[]),
            ]
        );
        let listener = &machine.system().listeners().unwrap()[0];
        let owner = machine.system().owner(listener).unwrap();
        assert_eq!((owner.pid, owner.is_ours(), owner.stopped), (7, true, false));
    }

    #[test]
    fn only_what_listens_is_a_listener() {
        let line = |local: &str, state: &str, inode: u64| {
            format!(
                "   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 0 33 0 {inode} 1"
            )
        };
        let table = [
            HEADER.trim_end().to_owned(),
            line("0100007F:1F40", "0A", 5),
            line("0100007F:1F41", "01", 7),
            line("00000000000000000000000001000000:0050", "0A", 8),
            line("00000000000000000000000000000000:0051", "0A", 9),
            "garbage".to_owned(),
        ]
        .join("\n");
        let listeners = parse_listeners(&table);
        let shown: Vec<_> = listeners.iter().map(|l| l.address.to_string()).collect();
        assert_eq!(shown, ["127.0.0.1:8000", "[::1]:80", "[::]:81"]);
        assert_eq!((listeners[0].user, listeners[0].inode), (33, 5));

        for (address, found) in [
            ("127.0.0.1:8000", Some(0)),
            ("127.0.0.2:8000", None),
            ("127.0.0.1:81", Some(2)),
            ("[::1]:80", Some(1)),
            ("127.0.0.1:80", None),
        ] {
            let listener = listener_at(&listeners, address.parse().unwrap());
            assert_eq!(listener, found.map(|at: usize| &listeners[at]), "{address}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_listener_of_this_very_process_is_found_on_this_very_machine() {
        let system = System::of_this_machine();
        for ip in ["127.0.0.1", "::1"] {
            // A machine may be without IPv6.
            let Ok(socket) = std::net::TcpListener::bind((ip, 0)) else { continue };
            let address = socket.local_addr().unwrap();
            let listeners = system.listeners().unwrap();
            let listener = listener_at(&listeners, address).expect("it listens");
            assert_eq!(system.owner(listener).unwrap().pid, std::process::id());
            assert!(is_local(address.ip()));
        }
        // Addresses for documentation belong to nobody.
        assert!(!is_local("192.0.2.1".parse().unwrap()));
    }
}
