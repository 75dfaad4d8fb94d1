//! Work that would keep a serving thread from its other connections.

use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

use inferring_types::{Deadline, ServiceError};
use tokio::sync::Semaphore;
use tokio::time::timeout_at;

/// As many at a time as there are cores: more would only hold more memory.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    Arc::new(Semaphore::new(cores.get()))
});

/// Does `work` for a request, elsewhere where `is_long`. Nobody waits for that beyond the deadline.
///
/// # Errors
/// `DeadlineExceeded`: it was not done by then.
pub(super) async fn run_by<T: Send + 'static>(
    deadline: Deadline,
    is_long: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ServiceError> {
    if !is_long {
        return Ok(work());
    }
    let done = timeout_at(deadline.at().into(), run(true, work)).await;
    done.map_err(|_| {
        let message = "the deadline passed while the request was read, or its answer written";
        ServiceError::deadline_exceeded(message)
    })
}

/// Does `work`, elsewhere where `is_long`.
pub(super) async fn run<T: Send + 'static>(
    is_long: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if !is_long {
        return work();
    }
    let place = PLACES.clone().acquire_owned().await.expect("the places are never closed");
    let done = tokio::task::spawn_blocking(move || {
        // Kept to the end, even if nobody waits for it any more.
        let _place = place;
        work()
    });
    match done.await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use inferring_types::ErrorKind;

    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_long_work_beyond_the_deadline() {
        let deadline = |time| Deadline::after(Instant::now(), time);
        let (end, ended) = mpsc::sync_channel::<()>(1);
        let never_done = move || ended.recv();
        let late = run_by(deadline(Duration::from_millis(20)), true, never_done).await;
        assert_eq!(late.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
        end.send(()).unwrap();
        for is_long in [false, true] {
            let done = run_by(deadline(Duration::from_secs(60)), is_long, || 7).await;
            assert_eq!(done.unwrap(), 7);
        }
    }
}
