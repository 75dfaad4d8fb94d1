use std::time::Duration;

use inferring_types::DataType;
use proptest::prelude::*;

use super::*;
use crate::settings::{
    BatchAxis, BatchingMode, DeviceName, OptimizationLevel, SequenceSettings, StateSettings,
    WarmupData,
};
use crate::{json, text_format};

fn read(text: &str) -> Result<(ModelSettings, Vec<Note>), ConfigError> {
    let tree = text_format::parse(text.as_bytes()).expect(text);
    interpret(&tree, Spelling::TextFormat, &"m".parse().unwrap())
}

fn settings(text: &str) -> ModelSettings {
    read(text).unwrap_or_else(|error| panic!("{text}: {error}")).0
}

fn notes(text: &str) -> Vec<String> {
    read(text)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
        .1
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn error(text: &str) -> String {
    read(text).expect_err(text).to_string()
}

#[test]
fn a_usual_configuration_leaves_nothing_unsaid() {
    let text = r#"
        name: "m"
        platform: "onnxruntime_onnx"
        max_batch_size: 8
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] } ]
        output [ { name: "y" data_type: TYPE_STRING dims: [ 1 ] } ]
        dynamic_batching { preferred_batch_size: [ 8, 4, 4 ] max_queue_delay_microseconds: 100 }
        instance_group [ { count: 2 kind: KIND_GPU gpus: [ 1 ] } ]
        version_policy: { specific: { versions: [ 1, 3 ] } }
        response_cache { enable: true }
        optimization { graph { level: 1 } }
        default_model_filename: "net.onnx"
        parameters { key: "intra_op_thread_count" value: { string_value: "3" } }
        model_warmup { name: "w" batch_size: 2 inputs { key: "x" value: { data_type: TYPE_FP32 dims: [ 3, 5 ] random_data: true } } }
    "#;
    let (settings, notes) = read(text).unwrap();
    assert_eq!(notes, []);
    assert_eq!(settings.batching.mode, Some(BatchingMode::Rows));
    assert_eq!(settings.batching.size_max.unwrap().get(), 8);
    assert_eq!(settings.batching.delay_max, Some(Duration::from_micros(100)));
    assert_eq!(settings.batching.dispatch_when_idle, Some(false));
    let preferred = settings.batching.preferred_sizes.iter().map(|size| size.get());
    assert_eq!(preferred.collect::<Vec<_>>(), [4, 8]);
    let x = &settings.inputs["x"];
    assert_eq!(x.datatype, Some(DataType::Fp32));
    assert_eq!(x.shape.as_ref().unwrap().to_string(), "[?,3,?]");
    assert_eq!(x.batch_axis, Some(BatchAxis::At(0)));
    assert_eq!(settings.outputs["y"].datatype, Some(DataType::Bytes));
    assert_eq!(settings.device.as_ref().unwrap().as_str(), "cuda:1");
    assert_eq!(settings.instances.unwrap().get(), 2);
    let versions = ["1", "3"].map(|v| v.parse().unwrap()).to_vec();
    assert_eq!(settings.versions, Some(VersionPolicy::Specific(versions)));
    assert_eq!(settings.cache.enabled, Some(true));
    assert_eq!(settings.optimization, Some(OptimizationLevel::Extended));
    assert_eq!(settings.file_name.as_ref().unwrap().as_str(), "net.onnx");
    assert_eq!(settings.intra_op_threads.unwrap().get(), 3);
    let [sample] = &settings.warmup[..] else { panic!("{:?}", settings.warmup) };
    assert_eq!(sample.batch_size.unwrap().get(), 2);
    assert_eq!(sample.inputs["x"].data, WarmupData::Random);
    assert_eq!(sample.inputs["x"].shape, Some(vec![3, 5]));
    // What can be written as config.toml means the same there.
    let toml = toml::to_string(&settings).unwrap();
    assert_eq!(ModelSettings::from_toml(&toml).unwrap(), settings, "{toml}");
}

#[test]
fn max_batch_size_bounds_forbids_or_leaves_batching() {
    for (text, mode, size_max, shape) in [
        ("", None, None, "[3]"),
        ("dynamic_batching { }", None, None, "[3]"),
        ("max_batch_size: 0", Some(BatchingMode::Alone), None, "[3]"),
        ("max_batch_size: 4", Some(BatchingMode::Auto), Some(4), "[?,3]"),
        ("max_batch_size: 4 dynamic_batching { }", Some(BatchingMode::Rows), Some(4), "[?,3]"),
        ("max_batch_size: 1", Some(BatchingMode::Auto), Some(1), "[?,3]"),
    ] {
        let settings = settings(&format!("{text} input {{ name: \"x\" dims: 3 }}"));
        assert_eq!(settings.batching.mode, mode, "{text}");
        assert_eq!(settings.batching.size_max.map(NonZeroUsize::get), size_max, "{text}");
        assert_eq!(settings.inputs["x"].shape.as_ref().unwrap().to_string(), shape, "{text}");
    }
    assert_eq!(
        notes("max_batch_size: 0 dynamic_batching { }"),
        ["`dynamic_batching` has no effect: `max_batch_size` is 0"],
    );
}

#[test]
fn without_a_delay_nobody_is_held_back() {
    let batching = settings("max_batch_size: 4 dynamic_batching { }").batching;
    assert_eq!((batching.dispatch_when_idle, batching.delay_max), (Some(true), None));
    let batching = settings(
        "dynamic_batching { default_queue_policy { max_queue_size: 7 } max_queue_delay_microseconds: 0 }",
    )
    .batching;
    assert_eq!(batching.dispatch_when_idle, Some(true));
    assert_eq!(batching.queue_requests_max.unwrap().get(), 7);
}

#[test]
fn priorities_are_those_of_dynamic_batching() {
    let batching =
        settings("dynamic_batching { priority_levels: 5 default_priority_level: 3 }").batching;
    assert_eq!(batching.priority_levels.unwrap().get(), 5);
    assert_eq!(batching.default_priority.unwrap().get(), 3);
    let batching = settings("dynamic_batching { priority_levels: 0 }").batching;
    assert_eq!((batching.priority_levels, batching.default_priority), (None, None));
}

/// A detector of speech, as a folder of models for Triton would describe it.
#[test]
fn implicit_state_is_kept_between_the_requests_of_a_sequence() {
    let text = r#"
        max_batch_size: 8
        input [ { name: "input" data_type: TYPE_FP32 dims: [ -1 ] } ]
        output [ { name: "output" data_type: TYPE_FP32 dims: [ 1 ] } ]
        sequence_batching {
          max_sequence_idle_microseconds: 5000000
          oldest { preferred_batch_size: [ 4 ] max_queue_delay_microseconds: 100 }
          state [ {
            input_name: "h" output_name: "hN" data_type: TYPE_FP32 dims: [ -1, 64 ]
            initial_state { name: "start" data_type: TYPE_FP32 dims: [ 2, 64 ] zero_data: true }
          } ]
        }
    "#;
    let (settings, notes) = read(text).unwrap();
    assert_eq!(notes, []);
    let state = StateSettings { input: "h".to_owned(), output: "hN".to_owned() };
    let sequences = SequenceSettings {
        idle_timeout: Some(Duration::from_secs(5)),
        count_max: None,
        state: vec![state],
    };
    assert_eq!(settings.sequences, Some(sequences));
    for (tensors, name, shape) in
        [(&settings.inputs, "h", "[?,2,64]"), (&settings.outputs, "hN", "[?,?,64]")]
    {
        assert_eq!(tensors[name].datatype, Some(DataType::Fp32));
        assert_eq!(tensors[name].shape.as_ref().unwrap().to_string(), shape);
        assert_eq!(tensors[name].batch_axis, Some(BatchAxis::At(0)));
    }
    let batching = &settings.batching;
    assert_eq!(
        (batching.mode, batching.dispatch_when_idle),
        (Some(BatchingMode::Rows), Some(false))
    );
    assert_eq!(batching.delay_max, Some(Duration::from_micros(100)));
    let toml = toml::to_string(&settings).unwrap();
    assert_eq!(ModelSettings::from_toml(&toml).unwrap(), settings, "{toml}");
}

#[test]
fn a_state_begins_with_1_for_each_size_that_is_left_open() {
    let settings = settings(
        "sequence_batching { state { input_name: \"a\" output_name: \"b\" dims: [ 2, -1, 128 ] } }",
    );
    assert_eq!(settings.inputs["a"].shape.as_ref().unwrap().to_string(), "[2,1,128]");
    assert_eq!(settings.outputs["b"].shape.as_ref().unwrap().to_string(), "[2,?,128]");
}

#[test]
fn how_sequences_share_runs_is_reported_where_it_is_the_servers() {
    let notes = |strategy: &str| {
        notes(&format!(
            "sequence_batching {{ {strategy} state {{ input_name: \"a\" output_name: \"b\" }} }}"
        ))
    };
    assert_eq!(notes(""), [""; 0]);
    for (strategy, key) in [
        ("direct { minimum_slot_utilization: 0.5 }", "direct.minimum_slot_utilization"),
        ("oldest { max_candidate_sequences: 4 }", "oldest.max_candidate_sequences"),
        ("oldest { preserve_ordering: true }", "oldest.preserve_ordering"),
    ] {
        let notes = notes(strategy);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with(&format!("`sequence_batching.{key}` has no effect")));
    }
}

#[test]
fn a_model_runs_on_the_first_device_that_is_named() {
    for (groups, device, instances, reported) in [
        ("{ kind: KIND_CPU }", Some("cpu"), 1, 0),
        ("{ count: 3 }", None, 3, 0),
        ("{ kind: KIND_AUTO count: 2 }, { count: 1 }", None, 3, 0),
        ("{ kind: KIND_GPU }", Some("cuda"), 1, 0),
        ("{ kind: KIND_GPU gpus: [ 2, 2 ] count: 2 }", Some("cuda:2"), 4, 0),
        ("{ kind: KIND_GPU gpus: [ 0, 1 ] count: 2 }", Some("cuda:0"), 2, 1),
        ("{ gpus: 1 }, { kind: KIND_CPU count: 4 }", Some("cuda:1"), 1, 1),
        ("{ kind: 2 count: 2 }, { kind: KIND_CPU }", Some("cpu"), 3, 0),
        ("{ kind: KIND_MODEL }", None, 1, 1),
        ("{ kind: KIND_CPU rate_limiter { priority: 1 } host_policy: \"p\" }", Some("cpu"), 1, 2),
    ] {
        let (settings, notes) = read(&format!("instance_group [ {groups} ]")).unwrap();
        assert_eq!(settings.device.as_ref().map(DeviceName::as_str), device, "{groups}");
        assert_eq!(settings.instances.unwrap().get(), instances, "{groups}");
        assert_eq!(notes.len(), reported, "{groups}: {notes:?}");
    }
    assert_eq!(
        notes("instance_group [ { gpus: [ 0, 1 ] } ]"),
        ["`instance_group[0]` has no effect: a model runs on one device here: cuda:0"],
    );
}

#[test]
fn optimization_levels_are_those_of_tritons_backend() {
    for (level, expected) in [
        ("0", None),
        ("-1", Some(OptimizationLevel::Basic)),
        ("1", Some(OptimizationLevel::Extended)),
        ("2", Some(OptimizationLevel::None)),
    ] {
        let text = format!("optimization {{ graph {{ level: {level} }} }}");
        assert_eq!(settings(&text).optimization, expected, "{level}");
    }
    assert_eq!(notes("optimization { graph { level: 3 } }").len(), 1);
}

#[test]
fn what_has_no_effect_is_reported_with_its_path() {
    for (text, key) in [
        ("no_such_key: 1", "no_such_key"),
        ("dynamic_batching { preserve_ordering: true }", "dynamic_batching.preserve_ordering"),
        ("dynamic_batching { no_such_key { } }", "dynamic_batching.no_such_key"),
        (
            "dynamic_batching { default_priority_level: 2 }",
            "dynamic_batching.default_priority_level",
        ),
        (
            "dynamic_batching { priority_queue_policy { key: 1 value { max_queue_size: 2 } } }",
            "dynamic_batching.priority_queue_policy",
        ),
        (
            "dynamic_batching { default_queue_policy { timeout_action: DELAY } }",
            "dynamic_batching.default_queue_policy.timeout_action",
        ),
        (
            "dynamic_batching { default_queue_policy { default_timeout_microseconds: 9 } }",
            "dynamic_batching.default_queue_policy.default_timeout_microseconds",
        ),
        (
            "dynamic_batching { default_queue_policy { allow_timeout_override: true } }",
            "dynamic_batching.default_queue_policy.allow_timeout_override",
        ),
        ("input { name: \"x\" format: FORMAT_NCHW }", "input[0].format"),
        ("input { name: \"x\" } input { name: \"y\" optional: true }", "input[1].optional"),
        ("input { name: \"x\" dims: 1 reshape { shape: [ ] } }", "input[0].reshape"),
        ("input { name: \"x\" allow_ragged_batch: true }", "input[0].allow_ragged_batch"),
        ("output { name: \"y\" label_filename: \"l.txt\" }", "output[0].label_filename"),
        ("output { name: \"y\" colour: RED }", "output[0].colour"),
        ("optimization { priority: PRIORITY_MAX }", "optimization.priority"),
        (
            "optimization { execution_accelerators { gpu_execution_accelerator { name: \"tensorrt\" } } }",
            "optimization.execution_accelerators",
        ),
        ("optimization { cuda { graphs: true } }", "optimization.cuda"),
        (
            "parameters { key: \"enable_mem_arena\" value { string_value: \"1\" } }",
            "parameters[\"enable_mem_arena\"]",
        ),
        (
            "parameters { key: \"execution_mode\" value { string_value: \"1\" } }",
            "parameters[\"execution_mode\"]",
        ),
        ("parameters { key: \"mine\" value { string_value: \"1\" } }", "parameters[\"mine\"]"),
        ("parameters { key: \"mine\" }", "parameters[\"mine\"]"),
        ("model_transaction_policy { decoupled: true }", "model_transaction_policy.decoupled"),
        ("metric_tags { key: \"a\" value: \"b\" }", "metric_tags"),
        ("cc_model_filenames { key: \"8.0\" value: \"b\" }", "cc_model_filenames"),
        ("runtime: \"other.so\"", "runtime"),
        (
            "model_warmup { inputs { key: \"x\" value { seed: 1 } } }",
            "model_warmup[0].inputs[\"x\"].seed",
        ),
    ] {
        let notes = notes(text);
        assert_eq!(notes.len(), 1, "{text}: {notes:?}");
        assert!(notes[0].starts_with(&format!("`{key}` ")), "{text}: {notes:?}");
    }
}

/// Triton answers a request for a configuration with all keys, those that were not given among
/// them: given back to load the model, they say nothing.
#[test]
fn keys_with_the_value_they_have_when_absent_are_not_reported() {
    let text = r#"{
        "name": "m", "platform": "onnxruntime_onnx", "backend": "onnxruntime", "runtime": "",
        "version_policy": {"latest": {"num_versions": 1}}, "max_batch_size": 0,
        "input": [{"name": "x", "data_type": "TYPE_FP32", "format": "FORMAT_NONE", "dims": [-1, 4],
                   "is_shape_tensor": false, "allow_ragged_batch": false, "optional": false,
                   "is_non_linear_format_io": false}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": ["-1"], "label_filename": "",
                    "is_shape_tensor": false, "is_non_linear_format_io": false}],
        "batch_input": [], "batch_output": [],
        "optimization": {"priority": "PRIORITY_DEFAULT", "input_pinned_memory": {"enable": false},
                         "gather_kernel_buffer_threshold": 0, "eager_batching": false},
        "instance_group": [{"name": "m_0", "kind": "KIND_CPU", "count": 1, "gpus": [],
                            "secondary_devices": [], "profile": [], "passive": false,
                            "host_policy": ""}],
        "default_model_filename": "model.onnx", "cc_model_filenames": {}, "metric_tags": {},
        "parameters": {}, "model_warmup": [], "model_transaction_policy": {"decoupled": false},
        "response_cache": null
    }"#;
    let (settings, notes) =
        interpret(&json::parse(text).unwrap(), Spelling::Json, &"m".parse().unwrap()).unwrap();
    assert_eq!(notes, []);
    assert_eq!(settings.batching.mode, Some(BatchingMode::Alone));
    assert_eq!(settings.outputs["y"].shape.as_ref().unwrap().to_string(), "[?]");
}

#[test]
fn json_and_the_text_format_mean_the_same() {
    let text = r#"max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 5 }
        input { name: "x" data_type: TYPE_INT64 dims: [ -1 ] }
        parameters { key: "intra_op_thread_count" value { string_value: "2" } }
        parameters { key: "odd" value { string_value: "2" } }
        model_warmup { count: 2 inputs { key: "x" value { data_type: TYPE_INT64 dims: 3 zero_data: true } } }
        some_key: 1"#;
    let snake = r#"{"max_batch_size": 4, "dynamic_batching": {"max_queue_delay_microseconds": "5"},
        "input": [{"name": "x", "data_type": "TYPE_INT64", "dims": ["-1"]}],
        "parameters": {"intra_op_thread_count": {"string_value": "2"}, "odd": {"string_value": "2"}},
        "model_warmup": [{"count": 2, "inputs": {"x": {"data_type": "TYPE_INT64", "dims": [3.0], "zero_data": true}}}],
        "some_key": 1}"#;
    let camel = r#"{"maxBatchSize": 4, "dynamicBatching": {"maxQueueDelayMicroseconds": 5},
        "input": [{"name": "x", "dataType": 9, "dims": [-1]}],
        "parameters": {"intra_op_thread_count": {"stringValue": "2"}, "odd": {"stringValue": "2"}},
        "modelWarmup": [{"count": 2, "inputs": {"x": {"dataType": "TYPE_INT64", "dims": ["3"], "zeroData": true}}}],
        "some_key": 1}"#;
    let expected = read(text).unwrap();
    assert_eq!(expected.1.len(), 2);
    for text in [snake, camel] {
        let tree = json::parse(text).unwrap();
        let found = interpret(&tree, Spelling::Json, &"m".parse().unwrap()).unwrap();
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn what_cannot_be_served_is_refused() {
    for (text, expected) in [
        (
            "name: \"other\"",
            "1:1: `name`: the configuration is that of `other`, the model is named `m`",
        ),
        ("platform: \"tensorrt_plan\"", "1:1: `platform`: `tensorrt_plan` is not served here"),
        ("platform: \"ensemble\"", "`ensemble` is not served here"),
        ("backend: \"python\"", "`python` is not served here: expected `onnxruntime`"),
        ("sequence_batching { }", "1:1: `sequence_batching`: no `state` is named"),
        (
            "sequence_batching { control_input { name: \"START\" control { kind: CONTROL_SEQUENCE_START } } }",
            "`sequence_batching.control_input`: inputs that tell a model where a sequence begins",
        ),
        (
            "sequence_batching { iterative_sequence: true }",
            "`sequence_batching.iterative_sequence`: a request is run once",
        ),
        (
            "dynamic_batching { } sequence_batching { }",
            "only one of `dynamic_batching` and `sequence_batching`",
        ),
        (
            "sequence_batching { direct { } oldest { } state { input_name: \"a\" output_name: \"b\" } }",
            "only one of `direct` and `oldest`",
        ),
        (
            "sequence_batching { state { input_name: \"a\" } }",
            "`sequence_batching.state[0]`: has no `output_name`",
        ),
        (
            "sequence_batching { state [ { input_name: \"a\" output_name: \"b\" }, { input_name: \"a\" output_name: \"c\" } ] }",
            "`sequences.state.1.input`: `a` is named a second time",
        ),
        (
            "sequence_batching { state { input_name: \"a\" output_name: \"b\" initial_state { data_file: \"s\" } } }",
            "`sequence_batching.state[0].initial_state[0].data_file`: a state begins with zeros here",
        ),
        (
            "sequence_batching { state { input_name: \"a\" output_name: \"b\" dims: [ 2, -1 ] initial_state { dims: [ 3, 3 ] zero_data: true } } }",
            "has shape [3,3], and the state [2,?]",
        ),
        (
            "dynamic_batching { priority_levels: 3 }",
            "1:20: `dynamic_batching.priority_levels`: `default_priority_level` must be from 1 to 3",
        ),
        (
            "dynamic_batching { priority_levels: 3 default_priority_level: 4 }",
            "`dynamic_batching.default_priority_level`: `default_priority_level` must be from 1 to 3",
        ),
        (
            "dynamic_batching { priority_levels: 101 default_priority_level: 4 }",
            "`dynamic_batching.priority_levels`: more than 100",
        ),
        ("ensemble_scheduling { step { } }", "`ensemble_scheduling`: a model made of other models"),
        ("batch_input { }", "`batch_input`: "),
        ("model_operations { op_library_filename: \"x.so\" }", "libraries of custom operators"),
        ("model_repository_agents { agents { name: \"checksum\" } }", "agents"),
        ("max_batch_size: -1", "`max_batch_size`: -1 is negative"),
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: 8 }",
            "8 is more than `max_batch_size`, which is 4",
        ),
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: 0 }",
            "`dynamic_batching.preferred_batch_size[0]`: must be 1 or more",
        ),
        ("input { dims: 1 }", "`input[0]`: has no `name`"),
        (
            "input { name: \"x\" } input { name: \"x\" }",
            "`input[1]`: `x` is described a second time",
        ),
        ("input { name: \"x\" dims: [ 1, 0 ] }", "`input[0].dims[1]`: 0 is no dimension"),
        ("input { name: \"x\" dims: -2 }", "-2 is no dimension"),
        (
            "input { name: \"x\" data_type: TYPE_FLOAT }",
            "`input[0].data_type`: expected one of TYPE_INVALID, TYPE_BOOL",
        ),
        (
            "default_model_filename: \"../../other/1/model.onnx\"",
            "is no path below the model's folder",
        ),
        ("default_model_filename: \"/etc/passwd\"", "is no path below the model's folder"),
        (
            "version_policy { latest { num_versions: 0 } }",
            "`version_policy`: `num_versions` must be 1 or more",
        ),
        ("version_policy { specific { } }", "`versions` must be one or more numbers from 1 on"),
        (
            "version_policy { specific { versions: 0 } }",
            "`versions` must be one or more numbers from 1 on",
        ),
        ("version_policy { all { } latest { } }", "only one of `latest`, `all` and `specific`"),
        ("instance_group { count: 2000000000 }", "`instances`: more than 1024"),
        ("instance_group { count: -1 }", "`instance_group[0]`: `count` is negative"),
        ("instance_group { kind: KIND_CPU gpus: 0 }", "names GPUs"),
        ("instance_group { kind: KIND_TPU }", "expected one of KIND_AUTO, KIND_GPU"),
        (
            "parameters { key: \"intra_op_thread_count\" value { string_value: \"all\" } }",
            "`all` is no number of threads",
        ),
        ("model_warmup { batch_size: 2 }", "`model_warmup[0].batch_size`: 2 rows"),
        (
            "model_warmup { inputs { key: \"x\" value { zero_data: true random_data: true } } }",
            "more than one kind of data",
        ),
        (
            "model_warmup { inputs { key: \"x\" value { input_data_file: \"../../secret\" } } }",
            "is no path below the model's folder",
        ),
        ("response_cache: true", "`response_cache`: expected a message, got a word"),
        ("max_batch_size: 1\nmax_batch_size: 2", "2:1: `max_batch_size`: is given more than once"),
    ] {
        let error = error(text);
        assert!(error.contains(expected), "{text}\n{error}\n{expected}");
    }
}

#[test]
fn the_longest_configurations_are_read_and_their_notes_are_few() {
    // All that fits, in the ways that ask most of the reader of keys.
    let length = text_format::LENGTH_MAX;
    let unknown: String = (0..length / 10).map(|index| format!("k{index:06}:1 ")).collect();
    let (_, notes) = read(&unknown).unwrap();
    assert_eq!(notes.len(), NOTES_MAX + 1);
    let more = format!("{} more keys have no effect", length / 10 - NOTES_MAX);
    assert_eq!(notes[NOTES_MAX].to_string(), more);
    let same = "some_key { }".repeat(length / 12);
    assert_eq!(read(&same).unwrap().1, [Note::UnknownKey { key: "some_key".to_owned() }]);
    let dims = format!("input {{ name: \"x\" dims: [ {}1 ] }}", "1,".repeat(length / 3));
    assert!(error(&dims).contains("more than 64 dimensions"));
    assert!(error(&"input{}".repeat(length / 8)).contains("has no `name`"));
    let parameters = "parameters{key:\"a\"}".repeat(length / 20);
    assert_eq!(read(&parameters).unwrap().1.len(), 1);
}

#[test]
fn a_reshaped_input_is_described_as_the_model_has_it() {
    let text = "max_batch_size: 2 input { name: \"x\" dims: [ 1 ] reshape: { shape: [ ] } }";
    assert_eq!(settings(text).inputs["x"].shape.as_ref().unwrap().to_string(), "[?]");
}

#[test]
fn the_data_of_warm_up_is_in_its_folder() {
    let text =
        "model_warmup { inputs { key: \"x\" value { dims: 2 input_data_file: \"x.raw\" } } }";
    let file = WarmupData::File("warmup/x.raw".parse().unwrap());
    assert_eq!(settings(text).warmup[0].inputs["x"].data, file);
}

proptest! {
    #[test]
    fn no_keys_and_values_make_it_panic(parts in proptest::collection::vec(
        (proptest::sample::select(KEYS.to_vec()), proptest::sample::select(VALUES.to_vec())), 0..12)) {
        let text: String = parts.iter().map(|(key, value)| format!("{key} {value} ")).collect();
        // Braces that a key opens are closed in the end.
        let open = text.matches('{').count().saturating_sub(text.matches('}').count());
        let text = text + &"}".repeat(open);
        if let Ok(tree) = text_format::parse(text.as_bytes()) {
            let _ = interpret(&tree, Spelling::TextFormat, &"m".parse().unwrap());
            let _ = interpret(&tree, Spelling::Json, &"m".parse().unwrap());
        }
    }
}

const KEYS: [&str; 31] = [
    "name:",
    "max_batch_size:",
    "input",
    "output",
    "dims:",
    "data_type:",
    "dynamic_batching",
    "preferred_batch_size:",
    "priority_levels:",
    "default_priority_level:",
    "sequence_batching { state { input_name: \"a\" output_name: \"b\"",
    "initial_state",
    "oldest",
    "max_queue_delay_microseconds:",
    "instance_group",
    "count:",
    "kind:",
    "gpus:",
    "version_policy",
    "latest",
    "specific",
    "versions:",
    "model_warmup",
    "inputs",
    "key:",
    "value",
    "reshape",
    "shape:",
    "parameters",
    "string_value:",
    "optimization { graph { level:",
];

const VALUES: [&str; 14] = [
    "1",
    "-1",
    "0",
    "18446744073709551615",
    "1e300",
    "\"x\"",
    "\"\\377\"",
    "{",
    "{ }",
    "}",
    "[ ]",
    "[ 1, 2 ]",
    "KIND_GPU",
    "[ { name: \"x\" }, { } ]",
];
