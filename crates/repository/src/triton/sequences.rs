//! `sequence_batching`: state that is kept between the requests of a sequence.
//!
//! Of Triton's two ways to a model with state, the one is served here in which the server keeps
//! what outputs give and puts it into inputs (`state`). In the other the model itself keeps it
//! and is told by `control_input` where sequences begin and end, which no ONNX model does.

use std::time::Duration;

use inferring_types::{Dimension, ShapeSpec};

use super::batching::{self, Rows};
use super::section::{Located, Section};
use super::tensors;
use crate::error::ConfigError;
use crate::settings::{BatchingMode, ModelSettings, SequenceSettings, StateSettings};

pub(super) fn read(
    root: &Section<'_>,
    settings: &mut ModelSettings,
    rows: Rows,
) -> Result<Option<SequenceSettings>, ConfigError> {
    let Some(located) = root.one("sequence_batching")? else { return Ok(None) };
    if !root.many("dynamic_batching").is_empty() {
        let problem = "only one of `dynamic_batching` and `sequence_batching` can be given";
        return Err(located.problem(problem));
    }
    let section = root.inside(&located)?;
    section.refuse(
        "control_input",
        "inputs that tell a model where a sequence begins and ends are not filled here",
    )?;
    for key in ["iterative_sequence", "generative_sequence"] {
        section.refuse(key, "a request is run once here, and not again with its own answer")?;
    }
    let idle = section.integer::<u64>("max_sequence_idle_microseconds")?.unwrap_or(0);
    let mut sequences = SequenceSettings {
        idle_timeout: (idle > 0).then(|| Duration::from_micros(idle)),
        ..SequenceSettings::default()
    };
    for located in section.many("state") {
        sequences.state.push(state(&section, &located, settings, rows)?);
    }
    if sequences.state.is_empty() {
        return Err(located.problem(
            "no `state` is named: without the output that a request gives and the input of the \
             next one nothing is kept between requests here",
        ));
    }
    if rows == Rows::LeftOut {
        settings.batching.mode = Some(BatchingMode::Rows);
    }
    strategy(&section, &located, settings)?;
    section.finish();
    Ok(Some(sequences))
}

/// One part of the state. What is said of it is held against the model as if it stood in `input`
/// and `output`, where Triton does not have it.
fn state(
    parent: &Section<'_>,
    located: &Located<'_>,
    settings: &mut ModelSettings,
    rows: Rows,
) -> Result<StateSettings, ConfigError> {
    let section = parent.inside(located)?;
    let name = |key: &str| -> Result<String, ConfigError> {
        let name = section.text(key)?.unwrap_or_default();
        if name.is_empty() { Err(located.problem(format!("has no `{key}`"))) } else { Ok(name) }
    };
    let (input, output) = (name("input_name")?, name("output_name")?);
    let datatype = tensors::datatype(&section)?;
    let dims = tensors::dimensions(&section.many("dims"), section.spelling())?;
    let start = start(&section, &dims)?;
    if datatype.is_some() || !dims.is_empty() {
        let described = |dims| tensors::described(datatype, dims, rows);
        settings.inputs.entry(input.clone()).or_insert_with(|| described(start));
        settings.outputs.entry(output.clone()).or_insert_with(|| described(dims));
    }
    for key in ["use_same_buffer_for_input_output", "use_growable_memory"] {
        section.no_effect(key, "how memory is reserved is the server's");
    }
    section.finish();
    Ok(StateSettings { input, output })
}

/// The size of a state of these `dims` at the start, which is the one that it keeps here. A size
/// that is left open is that of the initial state, or 1 where there is none: as Triton has it.
fn start(section: &Section<'_>, dims: &[Dimension]) -> Result<Vec<Dimension>, ConfigError> {
    let all = section.many("initial_state");
    if let Some(second) = all.get(1) {
        return Err(second.problem("a state has one start"));
    }
    let Some(located) = all.first() else {
        let size = |dim: &Dimension| Dimension::Fixed(dim.fixed().unwrap_or(1));
        return Ok(dims.iter().map(size).collect());
    };
    let start = section.inside(located)?;
    start.refuse("data_file", "a state begins with zeros here")?;
    // Zeros are meant wherever the key stands, whatever its value.
    let _ = (start.text("name")?, start.boolean("zero_data")?, tensors::datatype(&start)?);
    let sizes = tensors::dimensions(&start.many("dims"), start.spelling())?;
    start.finish();
    let fits = |(dim, size): (&Dimension, &Dimension)| {
        size.fixed().is_some() && (dim.fixed().is_none() || dim == size)
    };
    if sizes.len() == dims.len() && dims.iter().zip(&sizes).all(fits) {
        return Ok(sizes);
    }
    let (start, state) = (ShapeSpec::new(sizes), ShapeSpec::new(dims.iter().cloned()));
    Err(located.problem(format!("has shape {start}, and the state {state}")))
}

/// How sequences share runs: here as all requests do, the oldest first.
fn strategy(
    section: &Section<'_>,
    located: &Located<'_>,
    settings: &mut ModelSettings,
) -> Result<(), ConfigError> {
    let (direct, oldest) = (section.section("direct")?, section.section("oldest")?);
    if direct.is_some() && oldest.is_some() {
        return Err(located.problem("only one of `direct` and `oldest` can be given"));
    }
    if let Some(direct) = direct {
        for key in ["max_queue_delay_microseconds", "minimum_slot_utilization"] {
            direct.no_effect(key, "a sequence has no place of its own in a batch");
        }
        direct.finish();
    }
    if let Some(oldest) = oldest {
        batching::patience(&oldest, &mut settings.batching)?;
        oldest.no_effect(
            "max_candidate_sequences",
            "requests of all sequences may share a run; `sequences.count_max` bounds them",
        );
        oldest.no_effect("preserve_ordering", "only within a sequence are answers in order");
        oldest.finish();
    }
    Ok(())
}
