//! How much of what a client sends over HTTP/2 may be beside the point.
//!
//! Some frames ask for nothing and carry nothing: pings, settings, priorities, window updates,
//! resets, data of no length. A client that works sends a few of them with each request and each
//! part of an answer. One that floods has this server read, and often answer, frame after frame
//! for next to nothing of its own; h2 bounds the memory of that, and not the work. So the heads
//! of the frames are followed on their way to it: requests, bodies and answers earn a client
//! such frames, time earns some more, and whoever has none left is told to go.

use std::time::Instant;

/// The frames that one client may still send for nothing.
#[derive(Debug)]
pub(crate) struct FrameBudget {
    left: u64,
    /// When it was last seen what had grown back.
    refilled: Instant,
    /// What the client was sent when it was last counted, in bytes.
    written: u64,
    head: [u8; Self::HEAD],
    head_length: usize,
    /// What remains of the frame whose head was read last.
    payload: usize,
}

/// There are too many of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Spent;

impl FrameBudget {
    /// Of a frame, before its payload.
    const HEAD: usize = 9;
    /// What a client may send at once, and how much of it grows back in a second.
    const LEFT_MAX: u64 = 4096;
    const PER_SECOND: u64 = 256;
    /// What a request earns, and a part of a body: a ping to measure the way, window updates of
    /// stream and connection, a reset.
    const PER_REQUEST: u64 = 8;
    const PER_PART: u64 = 4;
    /// Bytes of answers that earn one: clients tell of every part they took, twice.
    const WRITTEN: u64 = 256;

    /// Of a connection that begins now, with `preface` bytes before the first frame.
    pub(crate) fn new(preface: usize, now: Instant) -> Self {
        Self {
            left: Self::LEFT_MAX,
            refilled: now,
            written: 0,
            head: [0; Self::HEAD],
            head_length: 0,
            payload: preface,
        }
    }

    /// Follows bytes that were received; `written` is what the client was sent so far, and
    /// `now` asks what time it is.
    pub(crate) fn follow(
        &mut self,
        mut bytes: &[u8],
        written: u64,
        now: impl Fn() -> Instant,
    ) -> Result<(), Spent> {
        loop {
            let passed = self.payload.min(bytes.len());
            self.payload -= passed;
            bytes = &bytes[passed..];
            if bytes.is_empty() {
                return Ok(());
            }
            let taken = (Self::HEAD - self.head_length).min(bytes.len());
            self.head[self.head_length..][..taken].copy_from_slice(&bytes[..taken]);
            self.head_length += taken;
            bytes = &bytes[taken..];
            if self.head_length == Self::HEAD {
                self.head_length = 0;
                let [a, b, c, kind, ..] = self.head;
                self.payload = u32::from_be_bytes([0, a, b, c]) as usize;
                match self.earns(kind) {
                    0 => self.spend(written, &now)?,
                    earned => self.left = Self::LEFT_MAX.min(self.left + earned),
                }
            }
        }
    }

    fn earns(&self, kind: u8) -> u64 {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        match kind {
            HEADERS => Self::PER_REQUEST,
            DATA if self.payload > 0 => Self::PER_PART,
            _ => 0,
        }
    }

    fn spend(&mut self, written: u64, now: &impl Fn() -> Instant) -> Result<(), Spent> {
        if self.left == 0 {
            let taken = (written - self.written) / Self::WRITTEN;
            self.written = written;
            let now = now();
            let time = now.saturating_duration_since(self.refilled).as_secs_f64();
            self.refilled = now;
            let grown = (time * Self::PER_SECOND as f64) as u64;
            self.left = Self::LEFT_MAX.min(taken + grown);
        }
        self.left = self.left.checked_sub(1).ok_or(Spent)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const WINDOW_UPDATE: u8 = 8;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [_, a, b, c] = u32::try_from(length).unwrap().to_be_bytes();
        let mut frame = vec![a, b, c, kind, 0, 0, 0, 0, 1];
        frame.resize(9 + length, 0xff);
        frame
    }

    /// How many of these frames come through, of a thousand times a thousand, each round taking
    /// `time` and answered with `written` bytes.
    fn endured(frames: &[Vec<u8>], time: Duration, written: u64) -> usize {
        let now = Cell::new(Instant::now());
        let mut budget = FrameBudget::new(24, now.get());
        let sent = Cell::new(0);
        budget.follow(&[b'x'; 24], 0, || now.get()).unwrap();
        for round in 0..1_000_000 {
            for frame in frames {
                if budget.follow(frame, sent.get(), || now.get()) == Err(Spent) {
                    return round;
                }
            }
            now.set(now.get() + time);
            sent.set(sent.get() + written);
        }
        1_000_000
    }

    #[test]
    fn a_flood_of_frames_that_ask_for_nothing_is_ended() {
        let soon = Duration::from_micros(1);
        for kind in [SETTINGS, PING, WINDOW_UPDATE, 2, 3, 99] {
            let endured = endured(&[frame(kind, 8)], soon, 17);
            assert!((4096..10_000).contains(&endured), "{kind}: {endured}");
        }
        assert!(endured(&[frame(DATA, 0)], soon, 0) < 10_000);
    }

    #[test]
    fn clients_that_work_never_meet_it() {
        let soon = Duration::from_micros(1);
        let chatty = [
            frame(HEADERS, 40),
            frame(DATA, 100),
            frame(PING, 8),
            frame(PING, 8),
            frame(WINDOW_UPDATE, 4),
            frame(WINDOW_UPDATE, 4),
            frame(3, 4),
        ];
        assert_eq!(endured(&chatty, soon, 0), 1_000_000);
        // A stream of messages.
        let stream =
            [frame(DATA, 50), frame(WINDOW_UPDATE, 4), frame(WINDOW_UPDATE, 4), frame(PING, 8)];
        assert_eq!(endured(&stream, soon, 0), 1_000_000);
        // A large answer, taken in frames of 1 KiB.
        let taking = [frame(WINDOW_UPDATE, 4), frame(WINDOW_UPDATE, 4)];
        assert_eq!(endured(&taking, soon, 1024), 1_000_000);
        // Nothing but pings, a hundred a second.
        assert_eq!(endured(&[frame(PING, 8)], Duration::from_millis(10), 17), 1_000_000);
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let frames = [frame(HEADERS, 300), frame(DATA, 1000), frame(PING, 8), frame(DATA, 0)];
        let bytes = [vec![0; 24], frames.concat()].concat();
        for part in 1..30 {
            let mut budget = FrameBudget::new(24, Instant::now());
            for part in bytes.chunks(part) {
                budget.follow(part, 0, Instant::now).unwrap();
            }
            assert_eq!((budget.left, budget.payload), (FrameBudget::LEFT_MAX - 2, 0), "{part}");
        }
    }
}
