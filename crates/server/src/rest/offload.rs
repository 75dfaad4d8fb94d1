//! Work that would keep a serving thread from its other connections.

use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

use tokio::sync::Semaphore;

/// As many at a time as there are cores: more would only hold more memory.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    Arc::new(Semaphore::new(cores.get()))
});

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
