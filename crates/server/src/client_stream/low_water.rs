//! Waiting for a large body as a whole.
//!
//! Of 600 KB some arrive, and some more. For each part the system wakes the thread, which takes the
//! processor from a run of a model, copies what there is and waits again. So it is told how much is
//! still to come (`SO_RCVLOWAT`, the low-water mark), and wakes the thread when that is there. It
//! makes room for as much.
//!
//! A client may be slow, stop, or wait for word that what it sent has come (Nagle's algorithm). So
//! only who has sent much before anybody waited for it is waited for, and only for a moment. All
//! else is read as it comes.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use inferring_types::Announced;
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How much must have come before the system tells of it.
pub(super) struct LowWater {
    /// As the system was told; it tells of a single byte by itself.
    mark: usize,
    /// How much has come since there was last nothing to read.
    at_once: u64,
    patience: Duration,
    /// Runs while the mark is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl LowWater {
    /// More than a client in the same network takes for a mark, and nothing to any other.
    pub(super) const PATIENCE: Duration = Duration::from_millis(10);

    /// The most that is waited for at a time. The system keeps it until then.
    const MARK_MAX: usize = 1024 * 1024;

    pub(super) fn new(patience: Duration) -> Self {
        Self { mark: 1, at_once: 0, patience, waiting: None }
    }

    /// So many bytes have come, and of the body they belong to so much is left.
    pub(super) fn received(&mut self, stream: &TcpStream, bytes: usize, left: u64) {
        self.waiting = None;
        self.at_once += bytes as u64;
        let is_awaited = self.mark > 1 || self.at_once >= Announced::LARGE;
        let mark = if is_awaited && left > Announced::LARGE {
            usize::try_from(left).unwrap_or(Self::MARK_MAX).min(Self::MARK_MAX)
        } else {
            1
        };
        self.set(stream, mark);
    }

    /// To be asked while there is nothing to read: after a moment the system is to tell of whatever
    /// there is.
    pub(super) fn wait(&mut self, stream: &TcpStream, cx: &mut Context<'_>) {
        self.at_once = 0;
        if self.mark == 1 {
            return;
        }
        let moment = || Box::pin(tokio::time::sleep(self.patience));
        if self.waiting.get_or_insert_with(moment).as_mut().poll(cx).is_ready() {
            self.look_at_all(stream);
        }
    }

    /// The system is to tell of whatever comes.
    pub(super) fn look_at_all(&mut self, stream: &TcpStream) {
        self.waiting = None;
        self.set(stream, 1);
    }

    fn set(&mut self, stream: &TcpStream, mark: usize) {
        if self.mark != mark {
            self.mark = mark;
            set_low_water(stream, mark);
        }
    }
}

/// It is a wish: where the system knows no such thing, it tells of all that comes, as ever.
#[cfg(target_os = "linux")]
fn set_low_water(stream: &TcpStream, mark: usize) {
    use std::os::fd::AsRawFd;

    let mark = libc::c_int::try_from(mark).unwrap_or(libc::c_int::MAX);
    #[expect(unsafe_code, reason = "no library has a safe way to say it")]
    // SAFETY: the descriptor is the stream's, which is open, and the option's value is an integer
    // that is read before the call returns.
    unsafe {
        let size = size_of_val(&mark) as libc::socklen_t;
        let (level, option) = (libc::SOL_SOCKET, libc::SO_RCVLOWAT);
        libc::setsockopt(stream.as_raw_fd(), level, option, (&raw const mark).cast(), size);
    }
}

#[cfg(not(target_os = "linux"))]
fn set_low_water(_: &TcpStream, _: usize) {}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use crate::client_stream::{ClientStream, Framing, Watch};
    use crate::config::ServerConfig;

    use super::*;

    const HEAD: &str = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n";
    const BEGINNING: usize = 100_000;
    const REST: usize = 200_000;

    /// A client, and its connection with so much patience.
    async fn connection(patience: Duration) -> (TcpStream, ClientStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = ClientStream::new(stream, &ServerConfig::default());
        stream.low_water = LowWater::new(patience);
        stream.watch = Watch::Http1(Framing::default());
        (client, stream)
    }

    /// Reads so many bytes, and says in how many reads.
    async fn read(stream: &mut ClientStream, bytes: usize) -> usize {
        let mut buffer = vec![0; bytes];
        let (mut received, mut reads) = (0, 0);
        let reading = async {
            while received < bytes {
                received += stream.read(&mut buffer[received..]).await.unwrap();
                reads += 1;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap();
        reads
    }

    /// Sends a head and the beginning of its body, which are received.
    async fn begin(client: &mut TcpStream, stream: &mut ClientStream) {
        client.write_all(HEAD.as_bytes()).await.unwrap();
        client.write_all(&[0; BEGINNING]).await.unwrap();
        read(stream, HEAD.len() + BEGINNING).await;
    }

    #[tokio::test]
    async fn the_system_waits_for_what_is_left_of_a_large_body() {
        let (mut client, mut stream) = connection(Duration::from_secs(3600)).await;
        begin(&mut client, &mut stream).await;
        let send = async {
            for _ in 0..20 {
                client.write_all(&[0; REST / 20]).await.unwrap();
                // Whoever reads has a turn after every part.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (reads, ()) = tokio::join!(read(&mut stream, REST), send);
        // Linux tells a little earlier, where the window is about to close.
        assert!(reads <= 3, "{reads} reads of 20 parts");
        client.write_all(b"GET").await.unwrap();
        assert_eq!(read(&mut stream, 3).await, 1, "of what follows each byte is told");
    }

    #[tokio::test]
    async fn a_body_that_stops_is_read_as_far_as_it_came_and_the_next_one_is_waited_for() {
        let (mut client, mut stream) = connection(Duration::from_millis(1)).await;
        begin(&mut client, &mut stream).await;
        assert_eq!(stream.low_water.mark, REST);
        for part in [1, 9_999, REST - 10_000] {
            client.write_all(&vec![0; part]).await.unwrap();
            read(&mut stream, part).await;
        }
        begin(&mut client, &mut stream).await;
        assert_eq!(stream.low_water.mark, REST);
    }

    #[tokio::test]
    async fn who_sends_in_small_parts_is_not_waited_for() {
        let (mut client, mut stream) = connection(Duration::from_secs(3600)).await;
        client.write_all(HEAD.as_bytes()).await.unwrap();
        read(&mut stream, HEAD.len()).await;
        for _ in 0..15 {
            let (reads, sent) =
                tokio::join!(read(&mut stream, 10_000), client.write_all(&[0; 10_000]));
            sent.unwrap();
            assert!(reads >= 1 && stream.low_water.mark == 1);
        }
    }
}
