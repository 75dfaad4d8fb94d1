//! Clients that write frames of HTTP/2 as no library would: floods, bombs, and games with windows.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::waiting::LONG;

/// What a client sends first, with settings that leave everything as it is.
pub const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// A ping behind everything else.
const LAST: &[u8; 8] = b"the last";

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field by name and value, kept in no table.
fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [vec![0], text(name), text(value)].concat()
}

/// The head of `POST path` of JSON.
fn post(path: &str) -> Vec<u8> {
    // POST and http by their numbers in the static table.
    [vec![0x83, 0x86], field(":path", path), field(":authority", "x")].concat()
}

/// A way to be a burden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abuse {
    /// Requests that are cancelled as soon as they are sent.
    RapidReset,
    /// One head that never ends, in frames with something in them.
    Continuations,
    /// The same in frames with nothing in them.
    EmptyContinuations,
    /// Settings, each of which is to be acknowledged.
    Settings,
    /// Settings that change the windows of streams that wait for theirs.
    Windows,
    /// Pings, each of which is to be answered.
    Pings,
    /// Priorities of streams that do not exist.
    Priorities,
    /// Leave to send one byte more, again and again.
    WindowUpdates,
    /// A body in frames with nothing in them.
    EmptyData,
    /// Frames of a kind that nobody knows.
    UnknownFrames,
    /// Heads of a few bytes that become megabytes.
    Bomb,
    /// More requests than may be open, none of which ends.
    OpenRequests,
    /// Requests, and no leave to answer any of them.
    ClosedWindow,
    /// Leave to send more than can be counted.
    WindowOverflow,
}

impl Abuse {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::RapidReset,
        Self::Continuations,
        Self::EmptyContinuations,
        Self::Settings,
        Self::Windows,
        Self::Pings,
        Self::Priorities,
        Self::WindowUpdates,
        Self::EmptyData,
        Self::UnknownFrames,
        Self::Bomb,
        Self::OpenRequests,
        Self::ClosedWindow,
        Self::WindowOverflow,
    ];

    /// Whether it is no more than many clients together may ask for, and so is only to be borne.
    pub fn is_borne(self) -> bool {
        matches!(self, Self::RapidReset | Self::OpenRequests | Self::ClosedWindow)
    }

    /// What is sent behind the opening, once, against a path that answers a `body`.
    fn first(self, path: &str) -> Vec<u8> {
        let head = post(path);
        match self {
            Self::Continuations | Self::EmptyContinuations => frame(HEADERS, 0, 1, &head),
            Self::EmptyData => frame(HEADERS, END_HEADERS, 1, &head),
            Self::Windows => {
                (0..100).flat_map(|n| frame(HEADERS, END_HEADERS, 2 * n + 1, &head)).collect()
            }
            Self::ClosedWindow => frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]),
            Self::Bomb => {
                // A field of 3,900 bytes goes into the table of 4,096, as its first entry.
                let value = "b".repeat(3900);
                let name_and_length = [&[0x40, 1, b'a'][..], &[0x7f, 0xbd, 0x1d]].concat();
                let head = [head, name_and_length, value.into_bytes()].concat();
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)
            }
            _ => Vec::new(),
        }
    }

    /// What is sent the `n`-th time.
    fn again(self, n: u32, path: &str, body: &[u8]) -> Vec<u8> {
        let (head, stream) = (post(path), 2 * n + 3);
        match self {
            Self::RapidReset => [
                frame(HEADERS, END_HEADERS, stream, &head),
                frame(DATA, END_STREAM, stream, body),
                frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]),
            ]
            .concat(),
            Self::Continuations => frame(CONTINUATION, 0, 1, &field("a", &"b".repeat(100))),
            Self::EmptyContinuations => frame(CONTINUATION, 0, 1, &[]),
            Self::Settings => frame(SETTINGS, 0, 0, &[]),
            Self::Windows => {
                let size = if n.is_multiple_of(2) { 0 } else { 0x7fff_ffff_u32 };
                frame(SETTINGS, 0, 0, &[&[0, 4][..], &size.to_be_bytes()].concat())
            }
            Self::Pings => frame(PING, 0, 0, b"are you?"),
            Self::Priorities => frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1]),
            Self::WindowUpdates => frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]),
            Self::EmptyData => frame(DATA, 0, 1, &[]),
            Self::UnknownFrames => frame(0x77, 0, 0, b"what?"),
            // The first entry of the table, two thousand times.
            Self::Bomb => {
                let head = [head, vec![0xbe; 2000]].concat();
                frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)
            }
            Self::OpenRequests => frame(HEADERS, END_HEADERS, stream, &head),
            Self::ClosedWindow => {
                [frame(HEADERS, END_HEADERS, stream, &head), frame(DATA, END_STREAM, stream, body)]
                    .concat()
            }
            Self::WindowOverflow => frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
        }
    }

    /// Abuses the process at `address` until it ends the connection, or `times` times. `path`
    /// takes `body` in a POST.
    pub fn commit(self, address: SocketAddr, path: &str, body: &[u8], times: u32) -> Outcome {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        let mut wire = Wire::default();
        wire.unsent.extend_from_slice(OPENING);
        let deadline = Instant::now() + LONG;
        let mut exchange = |wire: &mut Wire| {
            assert!(Instant::now() < deadline, "{self:?} is neither ended nor over");
            wire.exchange(&mut stream);
        };
        // Whoever sends more than the other side has allowed is ended for that.
        while !wire.ended && !wire.is_allowed {
            exchange(&mut wire);
        }
        wire.unsent.extend(self.first(path));
        let mut sent = 0;
        while !wire.ended && sent < times {
            while sent < times && wire.unsent.len() < 64 * 1024 {
                wire.unsent.extend(self.again(sent, path, body));
                sent += 1;
            }
            exchange(&mut wire);
        }
        // Once this is answered, all before it has been seen.
        wire.unsent.extend(frame(PING, 0, 0, LAST));
        while !wire.ended && !wire.is_over {
            exchange(&mut wire);
        }
        Outcome { ended: wire.ended, go_away: wire.go_away, sent, stream }
    }
}

/// What became of an abuse.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the other side ended the connection.
    pub ended: bool,
    /// The reason that it gave.
    pub go_away: Option<u32>,
    /// How many times it was committed.
    pub sent: u32,
    /// Open until this is dropped.
    pub stream: TcpStream,
}

/// A connection that is written to and read from in turn.
#[derive(Default)]
struct Wire {
    unsent: Vec<u8>,
    unread: Vec<u8>,
    is_allowed: bool,
    is_over: bool,
    go_away: Option<u32>,
    ended: bool,
}

impl Wire {
    /// Sends and reads what goes without waiting; waits a little where nothing goes.
    fn exchange(&mut self, stream: &mut TcpStream) {
        let mut idle = true;
        match stream.write(&self.unsent) {
            Ok(length) => {
                idle = length == 0;
                self.unsent.drain(..length);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.ended = true,
        }
        let mut buffer = [0; 64 * 1024];
        match stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(length) => {
                idle = false;
                self.unread.extend_from_slice(&buffer[..length]);
                self.follow();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.ended = true,
        }
        self.ended |= self.go_away.is_some();
        if idle {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Looks for what the other side says.
    fn follow(&mut self) {
        while let Some(([a, b, c, kind, ..], rest)) = self.unread.split_first_chunk::<9>() {
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some(payload) = rest.get(..length) else { return };
            match *kind {
                GO_AWAY => {
                    let reason = payload[4..].first_chunk().expect("a reason behind the stream");
                    self.go_away = Some(u32::from_be_bytes(*reason));
                }
                WINDOW_UPDATE => self.is_allowed = true,
                PING => self.is_over |= payload == LAST,
                _ => {}
            }
            self.unread.drain(..9 + length);
        }
    }
}
