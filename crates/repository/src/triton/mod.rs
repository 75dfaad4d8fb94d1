//! Says what a configuration of Triton's means here.
//!
//! Triton's `ModelConfig` describes a model, how it is scheduled and how its engine is tuned. What
//! of it has a meaning here becomes [`ModelSettings`]. What would make answers wrong if it were
//! left out (controls of a sequence, an ensemble, a reshaping agent) is refused. The rest is
//! reported in notes, a key that is not known among it. `docs/reference/model-repository.md` has
//! the table.
//!
//! The meaning of each key is taken from the comments of Triton's `model_config.proto`, the checks
//! in its `model_config_utils.cc`, and for `optimization` and `parameters` the documentation of
//! its ONNX Runtime backend.

mod batching;
mod engine;
mod section;
mod sequences;
mod tensors;
mod warmup;

use std::cell::RefCell;
use std::num::NonZeroUsize;

use inferring_types::{ModelName, ModelVersion, VersionPolicy};

use self::section::Section;
use crate::error::ConfigError;
use crate::plan::Note;
use crate::settings::{ModelSettings, is_version};
use crate::tree::Message;

/// The most keys that are reported one by one.
const NOTES_MAX: usize = 100;

/// How a configuration is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// Protobuf's text format.
    TextFormat,
    /// Protobuf's JSON: maps are objects, and names may be in camel case.
    Json,
}

impl Spelling {
    fn matches(self, written: &str, name: &str) -> bool {
        written == name || (self == Self::Json && is_camel_case_of(written, name))
    }
}

fn is_camel_case_of(written: &str, name: &str) -> bool {
    let mut expected = String::with_capacity(name.len());
    let mut upper = false;
    for letter in name.chars() {
        match letter {
            '_' => upper = true,
            _ if std::mem::take(&mut upper) => expected.push(letter.to_ascii_uppercase()),
            _ => expected.push(letter),
        }
    }
    written == expected
}

/// The settings in a configuration of the model of that name, and what of it has no effect.
pub(crate) fn interpret(
    tree: &Message,
    spelling: Spelling,
    model: &ModelName,
) -> Result<(ModelSettings, Vec<Note>), ConfigError> {
    let notes = RefCell::default();
    let root = Section::root(tree, spelling, &notes);
    let mut settings = ModelSettings::default();

    check_identity(&root, model)?;
    refuse_what_changes_answers(&root)?;
    if let Some(file) = root.one("default_model_filename")? {
        let name = section::text(&file)?;
        if !name.is_empty() {
            let path = name.parse().map_err(|error| file.problem(format!("{error}")))?;
            settings.file_name = Some(path);
        }
    }
    settings.versions = version_policy(&root)?;
    if let Some(cache) = root.section("response_cache")? {
        settings.cache.enabled = Some(cache.boolean("enable")?.unwrap_or(false));
        cache.finish();
    }
    let rows = batching::read(&root, &mut settings.batching)?;
    settings.inputs = tensors::read(&root, tensors::Side::Input, rows)?;
    settings.outputs = tensors::read(&root, tensors::Side::Output, rows)?;
    settings.sequences = sequences::read(&root, &mut settings, rows)?;
    engine::read(&root, &mut settings)?;
    settings.warmup = warmup::read(&root, rows)?;
    report_what_has_no_effect(&root);
    root.finish();
    settings.check()?;
    let mut notes = notes.into_inner();
    let more = notes.len().saturating_sub(NOTES_MAX);
    if more > 0 {
        notes.truncate(NOTES_MAX);
        notes.push(Note::More(more));
    }
    Ok((settings, notes))
}

/// Whether it is the configuration of this model, and of one that ONNX Runtime executes.
fn check_identity(root: &Section<'_>, model: &ModelName) -> Result<(), ConfigError> {
    if let Some(name) = root.one("name")? {
        let given = section::text(&name)?;
        if !given.is_empty() && given != model.as_str() {
            return Err(name.problem(format!(
                "the configuration is that of `{}`, the model is named `{model}`",
                given.escape_debug(),
            )));
        }
    }
    for (key, accepted) in [("platform", "onnxruntime_onnx"), ("backend", "onnxruntime")] {
        let Some(value) = root.one(key)? else { continue };
        let given = section::text(&value)?;
        if !given.is_empty() && given != accepted {
            return Err(value.problem(format!(
                "`{}` is not served here: expected `{accepted}`, which executes ONNX models",
                given.escape_debug(),
            )));
        }
    }
    Ok(())
}

/// What cannot be left out without giving other answers than Triton would.
fn refuse_what_changes_answers(root: &Section<'_>) -> Result<(), ConfigError> {
    for (key, reason) in [
        ("ensemble_scheduling", "a model made of other models is not served here"),
        ("batch_input", "inputs made from the shape of a batch are not generated here"),
        ("batch_output", "outputs are not split by the shapes of inputs here"),
        ("model_operations", "libraries of custom operators are not loaded here"),
        ("model_repository_agents", "agents that change a model's files are not run here"),
    ] {
        root.refuse(key, reason)?;
    }
    Ok(())
}

fn version_policy(root: &Section<'_>) -> Result<Option<VersionPolicy>, ConfigError> {
    let Some(policy) = root.section("version_policy")? else { return Ok(None) };
    let latest = policy.section("latest")?;
    let all = policy.section("all")?;
    let specific = policy.section("specific")?;
    let problem = |problem: &str| ConfigError::Value {
        key: policy.key("").trim_end_matches('.').to_owned(),
        at: None,
        problem: problem.to_owned(),
    };
    let chosen = match (latest, all, specific) {
        (None, None, None) => None,
        (Some(latest), None, None) => {
            let count = latest.integer::<usize>("num_versions")?.unwrap_or(1);
            latest.finish();
            let count = NonZeroUsize::new(count)
                .ok_or_else(|| problem("`num_versions` must be 1 or more"))?;
            Some(VersionPolicy::Latest(count))
        }
        (None, Some(all), None) => {
            all.finish();
            Some(VersionPolicy::All)
        }
        (None, None, Some(specific)) => {
            let numbers: Vec<i64> = specific.integers("versions")?;
            specific.finish();
            let versions: Result<Vec<ModelVersion>, _> =
                numbers.iter().map(|number| number.to_string().parse()).collect();
            match versions {
                Ok(versions) if !versions.is_empty() && versions.iter().all(is_version) => {
                    Some(VersionPolicy::Specific(versions))
                }
                _ => return Err(problem("`versions` must be one or more numbers from 1 on")),
            }
        }
        _ => return Err(problem("only one of `latest`, `all` and `specific` can be given")),
    };
    policy.finish();
    Ok(chosen)
}

fn report_what_has_no_effect(root: &Section<'_>) {
    for (key, reason) in [
        ("runtime", "there is one runtime, the ONNX Runtime that this program was started with"),
        ("cc_model_filenames", "one file serves every GPU"),
        ("metric_tags", "metrics are labelled by model and version"),
        ("model_metrics", "the buckets of histograms are fixed"),
    ] {
        root.no_effect(key, reason);
    }
    let decoupled = root.section("model_transaction_policy");
    if let Ok(Some(policy)) = decoupled {
        policy.no_effect("decoupled", "an ONNX model gives one answer to each request");
        policy.finish();
    }
}

#[cfg(test)]
mod tests;
