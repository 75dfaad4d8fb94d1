//! Receiving what nobody will look at.
//!
//! What the rest of a refused request costs is mostly receiving it: 600 KB that the system copies,
//! in many parts, to where they are counted and forgotten. Linux can drop all that has come where
//! it is. How much it was is then told with as many zeros, which stay in the processor's cache.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use socket2::SockRef;
use tokio::io::{Interest, ReadBuf};
use tokio::net::TcpStream;

/// The most that is dropped at a time.
const PART: usize = 1024 * 1024;

thread_local! {
    /// Where it would be written to. Nothing is, and so it is a place and no memory.
    static NOWHERE: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(PART));
}

/// What was dropped and is not told yet.
#[derive(Debug, Default)]
pub(super) struct Unseen {
    untold: usize,
}

impl Unseen {
    /// Bytes that have come and are not told yet.
    pub(super) fn untold(&self) -> usize {
        self.untold
    }

    /// Drops at most `length` bytes of what has come, and tells of them as far as `buffer` has
    /// room for that.
    pub(super) fn poll_read(
        &mut self,
        stream: &TcpStream,
        length: u64,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.untold == 0 {
            ready!(stream.poll_read_ready(cx))?;
            match stream.try_io(Interest::READABLE, || discard(stream, length)) {
                // The client sends no more.
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(dropped) => self.untold = dropped,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        let told = self.untold.min(buffer.remaining());
        buffer.initialize_unfilled_to(told);
        buffer.advance(told);
        self.untold -= told;
        Poll::Ready(Ok(()))
    }
}

/// Elsewhere than on Linux the bytes are copied.
fn discard(stream: &TcpStream, length: u64) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    const DROPPED: i32 = rustix::net::RecvFlags::TRUNC.bits() as i32;
    #[cfg(not(target_os = "linux"))]
    const DROPPED: i32 = 0;
    let length = usize::try_from(length).unwrap_or(PART).min(PART);
    NOWHERE.with_borrow_mut(|nowhere| {
        let nowhere = &mut nowhere.spare_capacity_mut()[..length];
        SockRef::from(stream).recv_with_flags(nowhere, DROPPED)
    })
}
