//! Waiting for a large body as a whole.
//!
//! Of 600 KB some arrive, and some more. For each part the system wakes the thread, which takes the
//! processor from a run of a model, copies what there is and waits again. So before it waits it
//! tells the system how much is still to come (`SO_RCVLOWAT`, the low-water mark), and is woken when
//! that is there.
//!
//! A client may be slow, stop, or hold back a part until the one before is acknowledged (Nagle's
//! algorithm), which reading it would do. So only a client that has sent much before anybody waited
//! for it is waited for, and only until that was in vain once; what is left of such a body is read
//! as it comes.

use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use inferring_protocol::rest::READ_MAX;
use inferring_types::Announced;
use tokio::net::TcpStream;
use tokio::time::Sleep;

/// How much must have come before the system wakes whoever reads.
pub(super) struct LowWater {
    /// As it should be, and as the system was told; at 1 it wakes for all that comes.
    mark: usize,
    told: usize,
    /// How much has come since there was last nothing to read.
    at_once: u64,
    patience: Duration,
    /// Runs while the mark is waited for.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Whether the mark was waited for in vain in this body.
    is_slow: bool,
}

impl LowWater {
    /// What 256 KiB take in a network of about 200 Mbit/s. Whoever needs longer has lost that, once in a
    /// body.
    pub(super) const PATIENCE: Duration = Duration::from_millis(10);

    /// The most that is waited for at a time. Linux makes room for twice as much, and leaves it
    /// with the connection.
    const MARK_MAX: usize = READ_MAX;

    pub(super) fn new(patience: Duration) -> Self {
        Self { mark: 1, told: 1, at_once: 0, patience, waiting: None, is_slow: false }
    }

    /// So many bytes have come, and of the body they belong to so much is left.
    pub(super) fn received(&mut self, bytes: usize, left: u64) {
        self.waiting = None;
        self.at_once += bytes as u64;
        let much_is_left = left > Announced::LARGE;
        self.is_slow &= much_is_left;
        let sends_much = self.mark > 1 || self.at_once >= Announced::LARGE;
        self.mark = if much_is_left && sends_much && !self.is_slow {
            usize::try_from(left).unwrap_or(Self::MARK_MAX).min(Self::MARK_MAX)
        } else {
            1
        };
    }

    /// To be asked whenever there is nothing to read.
    ///
    /// A mark does not keep anybody from reading what there is, so the system is told here and not
    /// for each part that comes. When it is lowered, Linux wakes whoever reads for what is there
    /// already (before 4.18 only for the next part).
    pub(super) fn wait(&mut self, stream: &TcpStream, cx: &mut Context<'_>) {
        self.at_once = 0;
        if self.mark > 1 {
            let patience = || Box::pin(tokio::time::sleep(self.patience));
            if self.waiting.get_or_insert_with(patience).as_mut().poll(cx).is_ready() {
                self.give_up();
            }
        }
        self.tell(stream);
    }

    /// From now on whoever reads is woken for all that comes.
    pub(super) fn reset(&mut self, stream: &TcpStream) {
        self.give_up();
        self.tell(stream);
    }

    fn give_up(&mut self) {
        self.waiting = None;
        self.is_slow = true;
        self.mark = 1;
    }

    fn tell(&mut self, stream: &TcpStream) {
        if self.told != self.mark {
            self.told = self.mark;
            set_low_water(stream, self.mark);
        }
    }
}

/// It is a wish: a system that knows no such thing wakes for all that comes, as ever.
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
mod tests {
    use std::future::poll_fn;
    use std::io;
    use std::task::Poll;

    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    const LARGE: usize = Announced::LARGE as usize;
    const NEVER: Duration = Duration::from_secs(3600);

    /// The mark after these parts of a body, each with what is then left of it.
    fn mark_after(parts: &[(usize, u64)]) -> usize {
        let mut low_water = LowWater::new(NEVER);
        for &(bytes, left) in parts {
            low_water.received(bytes, left);
        }
        low_water.mark
    }

    #[test]
    fn what_is_left_is_waited_for_where_much_came_at_once_and_much_is_left() {
        assert_eq!(mark_after(&[(LARGE, 200_000)]), 200_000);
        assert_eq!(mark_after(&[(4_096, 700_000), (LARGE - 4_096, 600_000)]), LowWater::MARK_MAX);
        assert_eq!(mark_after(&[(LARGE, 600_000), (400_000, 200_000)]), 200_000);
        assert_eq!(mark_after(&[(LARGE - 1, 200_000)]), 1, "little has come so far");
        assert_eq!(mark_after(&[(LARGE, Announced::LARGE)]), 1, "little is left");
        assert_eq!(mark_after(&[(LARGE, 200_000), (200_000, 0)]), 1, "the body is over");
    }

    async fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    /// Reads what there is once whoever reads is woken.
    async fn read(stream: &TcpStream, low_water: &mut LowWater) -> usize {
        let mut buffer = vec![0; 1024 * 1024];
        let reading = poll_fn(|cx| {
            loop {
                if stream.poll_read_ready(cx).is_pending() {
                    low_water.wait(stream, cx);
                    return Poll::Pending;
                }
                match stream.try_read(&mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return Poll::Ready(read.unwrap()),
                }
            }
        });
        tokio::time::timeout(Duration::from_secs(60), reading).await.unwrap()
    }

    /// In how many reads small parts of a body are read, of which so much has come at once before.
    async fn reads_of_small_parts(at_once: usize, parts: usize) -> usize {
        const PART: usize = 2_000;
        let (mut client, stream) = connection().await;
        let mut low_water = LowWater::new(NEVER);
        let send = async {
            for _ in 0..parts {
                client.write_all(&[0; PART]).await.unwrap();
                // Whoever reads has its turn as soon as it is woken.
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let receive = async {
            let mut left = parts * PART;
            low_water.received(at_once, left as u64);
            let mut reads = 0;
            while left > 0 {
                let bytes = read(&stream, &mut low_water).await;
                (left, reads) = (left - bytes, reads + 1);
                low_water.received(bytes, left as u64);
            }
            reads
        };
        tokio::join!(receive, send).0
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_who_has_sent_much_at_once_is_waited_for() {
        let waited = reads_of_small_parts(LARGE, 200).await;
        let as_they_came = reads_of_small_parts(0, 200).await;
        assert!(2 * waited < as_they_came, "{waited} and {as_they_came} reads of 200 parts");
    }

    #[tokio::test]
    async fn a_body_that_stops_is_read_as_it_comes_from_then_on_and_the_next_is_waited_for() {
        let (_client, stream) = connection().await;
        let mut low_water = LowWater::new(Duration::from_millis(1));
        low_water.received(LARGE, 200_000);
        let in_vain = poll_fn(|cx| {
            low_water.wait(&stream, cx);
            if low_water.told == 1 { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::time::timeout(Duration::from_secs(60), in_vain).await.unwrap();
        low_water.received(LARGE, 100_000);
        assert_eq!(low_water.mark, 1, "it was waited for in vain");
        low_water.received(100_000, 0);
        low_water.received(LARGE, 200_000);
        assert_eq!(low_water.mark, 200_000);
    }

    #[tokio::test]
    async fn a_mark_is_forgotten_when_the_rest_is_thrown_away() {
        let (mut client, stream) = connection().await;
        let mut low_water = LowWater::new(NEVER);
        low_water.received(LARGE, 200_000);
        let waker = std::task::Waker::noop();
        low_water.wait(&stream, &mut Context::from_waker(waker));
        assert_eq!(low_water.told, 200_000);
        low_water.reset(&stream);
        client.write_all(b"x").await.unwrap();
        assert_eq!(read(&stream, &mut low_water).await, 1);
    }
}
