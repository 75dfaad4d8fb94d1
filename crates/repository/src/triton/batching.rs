//! `max_batch_size` and `dynamic_batching`.
//!
//! In Triton `max_batch_size` above 0 says that all tensors have rows along their first axis, and
//! `dynamic_batching` that rows of different requests are to be joined. Here joining needs no
//! declaration where it can be proved to change nothing, so that `max_batch_size` alone only
//! bounds it; with `dynamic_batching` the declaration counts, as it does in Triton. 0 forbids it.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::section::Section;
use crate::error::ConfigError;
use crate::settings::{BatchingMode, BatchingSettings};

/// Whether the shapes in a configuration leave out a first axis along which rows lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// They do: `max_batch_size` is above 0.
    LeftOut,
    /// They are whole.
    Within,
}

pub(super) fn read(
    root: &Section<'_>,
    batching: &mut BatchingSettings,
) -> Result<Rows, ConfigError> {
    let size_max = size_max(root)?;
    match size_max {
        // Triton completes a configuration without it from the model; so does the worker.
        None => {}
        Some(None) => batching.mode = Some(BatchingMode::Alone),
        Some(Some(size)) => {
            batching.mode = Some(BatchingMode::Auto);
            batching.size_max = Some(size);
        }
    }
    if let Some(dynamic) = root.section("dynamic_batching")? {
        if size_max == Some(None) {
            root.note(root.key("dynamic_batching"), "`max_batch_size` is 0");
        }
        if batching.size_max.is_some() {
            batching.mode = Some(BatchingMode::Rows);
        }
        scheduling(&dynamic, batching)?;
        dynamic.finish();
    }
    Ok(if batching.size_max.is_some() { Rows::LeftOut } else { Rows::Within })
}

/// `None` where it is not given, `Some(None)` for 0.
fn size_max(root: &Section<'_>) -> Result<Option<Option<NonZeroUsize>>, ConfigError> {
    let Some(size) = root.integer::<i32>("max_batch_size")? else { return Ok(None) };
    match usize::try_from(size) {
        Ok(size) => Ok(Some(NonZeroUsize::new(size))),
        Err(_) => Err(ConfigError::Value {
            key: root.key("max_batch_size"),
            at: None,
            problem: format!("{size} is negative"),
        }),
    }
}

fn scheduling(dynamic: &Section<'_>, batching: &mut BatchingSettings) -> Result<(), ConfigError> {
    for located in dynamic.many("preferred_batch_size") {
        let size = super::section::integer::<i32>(&located, dynamic.spelling())?;
        let size = usize::try_from(size).ok().and_then(NonZeroUsize::new);
        let size = size.ok_or_else(|| located.problem("must be 1 or more"))?;
        if let Some(size_max) = batching.size_max.filter(|size_max| size > *size_max) {
            let problem = format!("{size} is more than `max_batch_size`, which is {size_max}");
            return Err(located.problem(problem));
        }
        batching.preferred_sizes.push(size);
    }
    batching.preferred_sizes.sort_unstable();
    batching.preferred_sizes.dedup();
    // Triton holds requests back for the time that is given here even where an instance is idle,
    // and not at all where none is given.
    let delay = dynamic.integer::<u64>("max_queue_delay_microseconds")?.unwrap_or(0);
    batching.dispatch_when_idle = Some(delay == 0);
    if delay > 0 {
        batching.delay_max = Some(Duration::from_micros(delay));
    }
    if let Some(policy) = dynamic.section("default_queue_policy")? {
        let waiting = policy.integer::<u32>("max_queue_size")?.unwrap_or(0);
        batching.queue_requests_max = usize::try_from(waiting).ok().and_then(NonZeroUsize::new);
        let reason = "a request's own time-out counts, and the server's for one without";
        for key in ["timeout_action", "default_timeout_microseconds", "allow_timeout_override"] {
            policy.no_effect(key, reason);
        }
        policy.finish();
    }
    dynamic.no_effect("preserve_ordering", "answers leave as soon as they are there");
    for key in ["priority_levels", "default_priority_level", "priority_queue_policy"] {
        dynamic.no_effect(key, "all requests wait in one queue");
    }
    Ok(())
}
