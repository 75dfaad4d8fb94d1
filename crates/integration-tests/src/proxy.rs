//! A proxy that passes bytes on as long as it is told to, and else does what networks do: delay,
//! stall, trickle, cut.
//!
//! It stands before one process, and what goes wrong with it can be changed at any time. It
//! keeps what was sent to the process, so that a test can tell what reached it.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::SockRef;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Every part of an answer is so late.
    Latency(Duration),
    /// Answers come with so many bytes a second.
    Bandwidth(u64),
    /// Connections are accepted, and nothing passes in either direction.
    Stall,
    /// Connections are reset as soon as they are accepted; those there are go on.
    Refuse,
    /// Of answers, so many bytes pass on each connection, and then it is reset.
    ResetAfter(u64),
    /// The same, but it is closed in this direction as if the answer ended there.
    CloseAfter(u64),
}

/// A proxy at work until it is dropped.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    upstream: SocketAddr,
    fault: Mutex<Fault>,
    changed: Condvar,
    ended: AtomicBool,
    accepted: AtomicU64,
    connections: Mutex<HashMap<u64, Connection>>,
    received: Mutex<Vec<u8>>,
}

/// One that was accepted, from its client and to the process.
struct Connection {
    client: TcpStream,
    process: TcpStream,
}

impl FaultProxy {
    /// A proxy on a free port that passes everything on to `upstream`.
    pub fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            fault: Mutex::default(),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            connections: Mutex::default(),
            received: Mutex::default(),
        });
        let acceptor = std::thread::spawn({
            let shared = shared.clone();
            move || accept(&listener, &shared)
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, this goes wrong, on the connections there are too.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        self.shared.changed.notify_all();
    }

    /// Closes all connections, as a process does that finds them idle for too long.
    pub fn close_connections(&self) {
        for (_, Connection { client, process }) in self.shared.connections().drain() {
            let _ = client.shutdown(Shutdown::Both);
            let _ = process.shutdown(Shutdown::Both);
        }
    }

    /// Connections that were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.shared.connections().len()
    }

    /// Everything that was sent to the process through it, in the order in which it came.
    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.shared.received.lock().unwrap()).into_owned()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.shared.changed.notify_all();
        self.close_connections();
        // Wakes the acceptor; where that fails it has ended already.
        drop(TcpStream::connect(self.address));
        self.acceptor.take().map(JoinHandle::join);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for (number, client) in (0..).zip(listener.incoming()) {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(client) = client else { continue };
        shared.accepted.fetch_add(1, Ordering::Relaxed);
        if shared.fault() == Fault::Refuse {
            reset(&client);
            continue;
        }
        // Where the process refuses, its client sees the connection end.
        let Ok(process) = TcpStream::connect(shared.upstream) else { continue };
        for stream in [&client, &process] {
            stream.set_nodelay(true).unwrap();
        }
        let both = |client: &TcpStream, process: &TcpStream| Connection {
            client: client.try_clone().unwrap(),
            process: process.try_clone().unwrap(),
        };
        shared.connections().insert(number, both(&client, &process));
        let back = both(&client, &process);
        let (shared_there, shared_back) = (shared.clone(), shared.clone());
        std::thread::spawn(move || {
            pass_questions(client, process, &shared_there);
        });
        std::thread::spawn(move || {
            pass_answers(back.process, back.client, &shared_back);
            shared_back.connections().remove(&number);
        });
    }
}

fn pass_questions(mut client: TcpStream, mut process: TcpStream, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        if !shared.wait_while_stalled() {
            break;
        }
        shared.received.lock().unwrap().extend_from_slice(&buffer[..length]);
        if process.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = process.shutdown(Shutdown::Write);
}

fn pass_answers(mut process: TcpStream, mut client: TcpStream, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    let mut passed = 0;
    loop {
        let most = match shared.fault() {
            // A tenth of a second's worth at a time.
            Fault::Bandwidth(rate) => usize::try_from(rate / 10).unwrap().max(1),
            _ => buffer.len(),
        };
        let most = most.min(buffer.len());
        let length = match process.read(&mut buffer[..most]) {
            Ok(length @ 1..) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Ok(_) | Err(_) => break,
        };
        if !shared.wait_while_stalled() {
            break;
        }
        let fault = shared.fault();
        match fault {
            Fault::Latency(delay) => shared.wait_or_change(delay),
            Fault::Bandwidth(_) => shared.wait_or_change(Duration::from_millis(100)),
            _ => {}
        }
        let passes = match fault {
            Fault::ResetAfter(limit) | Fault::CloseAfter(limit) => {
                length.min(usize::try_from(limit.saturating_sub(passed)).unwrap())
            }
            _ => length,
        };
        if client.write_all(&buffer[..passes]).is_err() {
            break;
        }
        passed += passes as u64;
        if passes < length
            || matches!(fault, Fault::ResetAfter(n) | Fault::CloseAfter(n) if n == passed)
        {
            let _ = process.shutdown(Shutdown::Both);
            if matches!(fault, Fault::ResetAfter(_)) {
                reset(&client);
                return;
            }
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Write);
}

/// Has the connection end with a reset, whatever was sent and not read yet.
fn reset(stream: &TcpStream) {
    // The other descriptors of this connection keep it open: shut down, it is reset all the same
    // when the last of them goes.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
    let _ = stream.shutdown(Shutdown::Read);
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Connection>> {
        self.connections.lock().unwrap()
    }

    /// Whether to go on, once nothing is stalled any more.
    fn wait_while_stalled(&self) -> bool {
        let stalled =
            |fault: &mut Fault| *fault == Fault::Stall && !self.ended.load(Ordering::Relaxed);
        drop(self.changed.wait_while(self.fault.lock().unwrap(), stalled).unwrap());
        !self.ended.load(Ordering::Relaxed)
    }

    /// Waits so long, or until something else goes wrong.
    fn wait_or_change(&self, time: Duration) {
        let fault = self.fault.lock().unwrap();
        let (before, until) = (*fault, Instant::now() + time);
        let unchanged = |fault: &mut Fault| {
            *fault == before && Instant::now() < until && !self.ended.load(Ordering::Relaxed)
        };
        drop(self.changed.wait_timeout_while(fault, time, unchanged).unwrap());
    }
}
