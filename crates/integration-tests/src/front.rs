//! Stands before a worker and tells its requests apart: it passes them on, and does with those for
//! inference what a worker does that is broken. A [`FaultProxy`](crate::proxy::FaultProxy) knows
//! bytes alone, and would break health checks as well.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

/// What becomes of a request for inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// The worker answers it.
    Pass,
    /// It is answered 500.
    Fail,
    /// Its connection ends without an answer.
    HangUp,
    /// It waits until that changes, and is then treated like any other.
    Hold,
}

/// A front at work until it is dropped.
pub struct Front {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    worker: SocketAddr,
    conduct: Mutex<Conduct>,
    changed: Condvar,
    ended: AtomicBool,
    asked: AtomicU64,
}

impl Front {
    /// A front on a free port, before the worker at `worker`, that passes everything on.
    pub fn start(worker: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            worker,
            conduct: Mutex::new(Conduct::Pass),
            changed: Condvar::new(),
            ended: AtomicBool::new(false),
            asked: AtomicU64::new(0),
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

    /// From now on, this becomes of requests for inference.
    pub fn set(&self, conduct: Conduct) {
        *self.shared.conduct.lock().unwrap() = conduct;
        self.shared.changed.notify_all();
    }

    /// Requests for inference that have reached it, whatever became of them.
    pub fn asked(&self) -> u64 {
        self.shared.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.set(Conduct::HangUp);
        // Wakes the acceptor; where that fails it has ended already.
        drop(TcpStream::connect(self.address));
        self.acceptor.take().map(JoinHandle::join);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.ended.load(Ordering::Relaxed) {
            return;
        }
        let Ok(client) = client else { continue };
        let shared = shared.clone();
        // Ends with its connection; what is broken about that is what was asked for.
        std::thread::spawn(move || drop(shared.serve(client)));
    }
}

impl Shared {
    fn serve(&self, client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let worker = TcpStream::connect(self.worker)?;
        worker.set_nodelay(true)?;
        let (mut to_client, mut to_worker) = (client.try_clone()?, worker.try_clone()?);
        let (mut client, mut worker) = (BufReader::new(client), BufReader::new(worker));
        loop {
            let request = Message::read(&mut client)?;
            match self.conduct_towards(&request) {
                Conduct::Pass | Conduct::Hold => {
                    to_worker.write_all(&request.bytes)?;
                    to_client.write_all(&Message::read(&mut worker)?.bytes)?;
                }
                Conduct::Fail => to_client.write_all(
                    b"HTTP/1.1 500 Internal Server Error\r\ncontent-type: application/json\r\n\
                      content-length: 18\r\n\r\n{\"error\":\"broken\"}",
                )?,
                Conduct::HangUp => return Ok(()),
            }
        }
    }

    fn conduct_towards(&self, request: &Message) -> Conduct {
        if !request.bytes.starts_with(b"POST ") {
            return Conduct::Pass;
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        let held = |conduct: &mut Conduct| *conduct == Conduct::Hold;
        *self.changed.wait_while(self.conduct.lock().unwrap(), held).unwrap()
    }
}

/// A request or an answer over HTTP/1.1, as it came.
struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// The next one; its length is the one that it states.
    fn read(stream: &mut impl BufRead) -> io::Result<Self> {
        /// By this a worker says that it may be asked otherwise, which is not read here.
        const OTHERWISE: &str = "x-inferring-frames:";
        let mut bytes = Vec::new();
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let name = line.to_ascii_lowercase();
            if let Some(value) = name.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            if !name.starts_with(OTHERWISE) {
                bytes.extend_from_slice(line.as_bytes());
            }
            if line == "\r\n" {
                break;
            }
        }
        let head = bytes.len();
        bytes.resize(head + length, 0);
        stream.read_exact(&mut bytes[head..])?;
        Ok(Self { bytes })
    }
}
