//! What goes wrong in the field, made to happen: processes that die, hang or are told to stop,
//! and clients that stall or do not speak HTTP.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::Process;
use crate::waiting::LONG;

impl Process {
    /// Freezes it: connections are still accepted by the system, and nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it run on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to stop, as an init system does.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Asks it to stop, as Ctrl-C does.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }
}

/// How a client stalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stall {
    /// It connects and says nothing.
    Silent,
    /// It sends half of a request's head.
    HalfHead,
    /// It sends the head and half of the body.
    HalfBody,
    /// It sends requests and reads no answers, until the connection takes no more of them.
    ReadsNothing,
}

impl Stall {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Silent, Self::HalfHead, Self::HalfBody, Self::ReadsNothing];

    /// A connection to `address` that stalls from now on.
    pub fn connect(self, address: SocketAddr) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        match self {
            Self::Silent => {}
            Self::HalfHead => stream.write_all(b"POST /infer HTTP/1.1\r\nHost: x\r\nCont").unwrap(),
            Self::HalfBody => {
                let head = b"POST /infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
                stream.write_all(head).unwrap();
                stream.write_all(b"{\"input_data\":[5.1,").unwrap();
            }
            Self::ReadsNothing => fill(&mut stream),
        }
        stream
    }
}

/// Sends questions and reads no answers until the connection takes no more: the other side has
/// then stopped reading, because it cannot get rid of what it answered.
fn fill(stream: &mut TcpStream) {
    // The answer repeats the path, so that few questions have long answers.
    let question = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(8000)).into_bytes();
    stream.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
    let deadline = Instant::now() + LONG;
    let mut sent = 0;
    while let Ok(length) = stream.write(&question[sent..]) {
        // The next write goes on in the middle of the question where this one ended.
        sent = (sent + length) % question.len();
        assert!(Instant::now() < deadline, "a client that reads nothing is served for ever");
    }
}

/// Sends `bytes` as they are, and reads whatever comes back until the other side closes or
/// `patience` passes without a byte.
pub fn send_raw(address: SocketAddr, bytes: &[u8], patience: Duration) -> RawAnswer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    // The other side may refuse in the middle and close.
    let _ = stream.write_all(bytes);
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    let closed = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(length) => read.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break true,
            Err(_) => break false,
        }
    };
    RawAnswer { text: String::from_utf8_lossy(&read).into_owned(), closed }
}

/// Reads one answer of a length that it states, head and body, and nothing behind it.
///
/// # Errors
/// Where the connection ends before.
pub fn read_answer(stream: &mut TcpStream) -> io::Result<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).map_err(io::Error::other)?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(head + &String::from_utf8_lossy(&body))
}

/// What came back for raw bytes.
#[derive(Debug)]
pub struct RawAnswer {
    /// All of it, heads and bodies.
    pub text: String,
    /// Whether the other side closed the connection.
    pub closed: bool,
}

impl RawAnswer {
    /// The status of the first answer; `None` where there is none.
    pub fn status(&self) -> Option<u16> {
        self.text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }
}
