//! `max_batch_size` and `dynamic_batching`.
//!
//! In Triton `max_batch_size` above 0 says that all tensors have rows along their first axis, and
//! `dynamic_batching` that rows of different requests are to be joined. Here joining needs no
//! declaration where it can be proved to change nothing, so that `max_batch_size` alone only
//! bounds it; with `dynamic_batching` the declaration counts, as it does in Triton. 0 forbids it.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use super::section::{Located, Section, integer};
use crate::error::ConfigError;
use crate::settings::{BatchingMode, BatchingSettings, PRIORITY_LEVELS_MAX};

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
    patience(dynamic, batching)?;
    priorities(dynamic, batching)?;
    if let Some(policy) = dynamic.section("default_queue_policy")? {
        let waiting = policy.integer::<u32>("max_queue_size")?.unwrap_or(0);
        batching.queue_requests_max = usize::try_from(waiting).ok().and_then(NonZeroUsize::new);
        for (key, reason) in [
            (
                "timeout_action",
                "a request whose time is over is refused, never put behind the others",
            ),
            (
                "default_timeout_microseconds",
                "a request has the time that it states, or else the server's own",
            ),
            ("allow_timeout_override", "the time that a request states always counts"),
        ] {
            policy.no_effect(key, reason);
        }
        policy.finish();
    }
    dynamic.no_effect("preserve_ordering", "answers leave as soon as they are there");
    dynamic.no_effect("priority_queue_policy", "all priorities share the bounds of one queue");
    Ok(())
}

/// For what number of rows, and how long, requests are held back.
pub(super) fn patience(
    section: &Section<'_>,
    batching: &mut BatchingSettings,
) -> Result<(), ConfigError> {
    for located in section.many("preferred_batch_size") {
        let size = integer::<i32>(&located, section.spelling())?;
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
    let delay = section.integer::<u64>("max_queue_delay_microseconds")?.unwrap_or(0);
    batching.dispatch_when_idle = Some(delay == 0);
    if delay > 0 {
        batching.delay_max = Some(Duration::from_micros(delay));
    }
    Ok(())
}

/// Triton has no priorities where `priority_levels` is 0 or absent, and passes over those that
/// requests state; here they then have the server's own levels.
fn priorities(dynamic: &Section<'_>, batching: &mut BatchingSettings) -> Result<(), ConfigError> {
    let spelling = dynamic.spelling();
    let level = |located: &Option<Located<'_>>| -> Result<Option<NonZeroU32>, ConfigError> {
        let level =
            located.as_ref().map(|located| integer::<u32>(located, spelling)).transpose()?;
        Ok(level.and_then(NonZeroU32::new))
    };
    let (levels, default) =
        (dynamic.one("priority_levels")?, dynamic.one("default_priority_level")?);
    let (count, of_silent) = (level(&levels)?, level(&default)?);
    match (levels, count) {
        (Some(levels), Some(count)) => {
            if count.get() > PRIORITY_LEVELS_MAX {
                return Err(levels.problem(format!("more than {PRIORITY_LEVELS_MAX}")));
            }
            if of_silent.is_none_or(|default| default > count) {
                let located = default.as_ref().unwrap_or(&levels);
                let problem = format!("`default_priority_level` must be from 1 to {count}");
                return Err(located.problem(problem));
            }
            batching.priority_levels = Some(count);
            batching.default_priority = of_silent;
        }
        _ if of_silent.is_some() => {
            dynamic.note(dynamic.key("default_priority_level"), "`priority_levels` is 0");
        }
        _ => {}
    }
    Ok(())
}
