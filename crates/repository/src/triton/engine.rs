//! `instance_group`, `optimization` and `parameters`: where and how the engine runs the model.

use std::num::NonZeroUsize;

use super::section::{Located, Section};
use crate::error::ConfigError;
use crate::settings::{DeviceName, ModelSettings, OptimizationLevel};

pub(super) fn read(root: &Section<'_>, settings: &mut ModelSettings) -> Result<(), ConfigError> {
    instances(root, settings)?;
    optimization(root, settings)?;
    parameters(root, settings)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Auto,
    Gpu,
    Cpu,
    Model,
}

/// Instances on one device: the first that is named. Those on others are reported.
fn instances(root: &Section<'_>, settings: &mut ModelSettings) -> Result<(), ConfigError> {
    let mut total: Option<(Option<DeviceName>, usize)> = None;
    for located in root.many("instance_group") {
        let group = root.inside(&located)?;
        let (count, devices) = group_of(&group, &located)?;
        for device in devices {
            match &mut total {
                None => total = Some((device, count)),
                Some((first, sum)) if *first == device => *sum = sum.saturating_add(count),
                Some((first, _)) => {
                    let first = first.as_ref().map_or("the server's own", DeviceName::as_str);
                    let reason = format!("a model runs on one device here: {first}");
                    group.note(located.key.clone(), &reason);
                }
            }
        }
        group.finish();
    }
    if let Some((device, count)) = total {
        settings.device = device;
        settings.instances = NonZeroUsize::new(count);
    }
    Ok(())
}

/// How many instances one group wants on each of which devices; `None` is the server's own.
fn group_of(
    group: &Section<'_>,
    located: &Located<'_>,
) -> Result<(usize, Vec<Option<DeviceName>>), ConfigError> {
    let kind = group.choice(
        "kind",
        &[
            ("KIND_AUTO", 0, Kind::Auto),
            ("KIND_GPU", 1, Kind::Gpu),
            ("KIND_CPU", 2, Kind::Cpu),
            ("KIND_MODEL", 3, Kind::Model),
        ],
    )?;
    let kind = kind.unwrap_or(Kind::Auto);
    let count = match group.integer::<i32>("count")?.unwrap_or(0) {
        0 => 1,
        count => usize::try_from(count).map_err(|_| located.problem("`count` is negative"))?,
    };
    let gpus: Vec<u32> = group.integers("gpus")?;
    let devices = match (kind, gpus.is_empty()) {
        (Kind::Cpu | Kind::Model, false) => {
            return Err(located.problem("names GPUs and is of a kind that uses none"));
        }
        (Kind::Auto, true) => vec![None],
        (Kind::Gpu, true) => vec![Some(DeviceName::cuda(None))],
        (Kind::Auto | Kind::Gpu, false) => {
            gpus.iter().map(|&gpu| Some(DeviceName::cuda(Some(gpu)))).collect()
        }
        (Kind::Cpu, true) => vec![Some(DeviceName::cpu())],
        (Kind::Model, true) => {
            group.note(group.key("kind"), "an ONNX model does not choose its device");
            vec![None]
        }
    };
    let _ = group.text("name")?;
    for key in ["rate_limiter", "secondary_devices", "profile", "passive", "host_policy"] {
        group.no_effect(key, "every instance is served by a thread of its own, on one device");
    }
    Ok((count, devices))
}

fn optimization(root: &Section<'_>, settings: &mut ModelSettings) -> Result<(), ConfigError> {
    let Some(optimization) = root.section("optimization")? else { return Ok(()) };
    if let Some(graph) = optimization.section("graph")? {
        settings.optimization = match graph.integer::<i32>("level")?.unwrap_or(0) {
            0 => None,
            -1 => Some(OptimizationLevel::Basic),
            1 => Some(OptimizationLevel::Extended),
            2 => Some(OptimizationLevel::None),
            level => {
                let reason = format!("the levels are -1, 0, 1 and 2, not {level}");
                graph.note(graph.key("level"), &reason);
                None
            }
        };
        graph.finish();
    }
    for (key, reason) in [
        ("priority", "all models are equal here"),
        ("cuda", "CUDA is used with ONNX Runtime's own settings"),
        ("execution_accelerators", "CUDA and the CPU are the providers that are used"),
        ("input_pinned_memory", "how memory is moved is ONNX Runtime's"),
        ("output_pinned_memory", "how memory is moved is ONNX Runtime's"),
        ("gather_kernel_buffer_threshold", "rows are put together on the CPU"),
        ("eager_batching", "rows are put together as soon as a batch is complete"),
    ] {
        optimization.no_effect(key, reason);
    }
    optimization.finish();
    Ok(())
}

/// What Triton's ONNX Runtime backend reads of `parameters`.
fn parameters(root: &Section<'_>, settings: &mut ModelSettings) -> Result<(), ConfigError> {
    for (name, located) in root.map("parameters")? {
        let parameter = root.inside(&located)?;
        let value = parameter.one("string_value")?;
        parameter.finish();
        let text = value.as_ref().map(super::section::text).transpose()?.unwrap_or_default();
        let reason = match name.as_str() {
            "intra_op_thread_count" => {
                let Ok(count) = text.trim().parse::<u16>() else {
                    return Err(located.problem(format!("`{text}` is no number of threads")));
                };
                // 0 leaves the number to the server, as it leaves it to ONNX Runtime in Triton.
                settings.intra_op_threads = NonZeroUsize::new(count.into());
                continue;
            }
            "execution_mode" | "inter_op_thread_count" if matches!(text.trim(), "0" | "") => {
                continue;
            }
            "execution_mode" | "inter_op_thread_count" => "operators run one after the other",
            "enable_mem_arena"
            | "enable_mem_pattern"
            | "memory.enable_memory_arena_shrinkage"
            | "session.use_device_allocator_for_initializers"
            | "gpu_mem_limit"
            | "arena_extend_strategy" => "how memory is reserved is the server's",
            "cudnn_conv_algo_search" | "do_copy_in_default_stream" => {
                "CUDA is used with ONNX Runtime's own settings"
            }
            "share_session_between_instances" => "instances share a session where that is safe",
            _ => {
                root.unknown(located.key.clone());
                continue;
            }
        };
        root.note(located.key.clone(), reason);
    }
    Ok(())
}
