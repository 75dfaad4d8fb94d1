use std::num::NonZeroUsize;
use std::time::Duration;

use bytesize::ByteSize;
use inferring_types::VersionPolicy;
use proptest::prelude::*;

use super::*;
use crate::settings::{
    BatchAxis, BatchingMode, CacheSettings, ElementValue, OptimizationLevel, PaddingSettings,
    Pinning, SequenceSettings, StateSettings, WarmupData,
};

const EVERYTHING: &str = r#"
file_name = "net.onnx"
device = "cuda:1"
instances = 2
pinning = "cores"
run_limit = "30s"
intra_op_threads = 4
optimization = "extended"
versions = { latest = 2 }

[aliases]
stable = 3
canary = "4"

[batching]
mode = "rows"
size_max = 16
preferred_sizes = [4, 8]
delay_max = "2ms"
dispatch_when_idle = false
queue_requests_max = 100
queue_bytes_max = "64MiB"
allowed_sizes = [1, 4, 8]
priority_levels = 5
default_priority = 3
target_latency = "50ms"

[cache]
enabled = false
time_to_live = "10m"
bytes = "1MiB"

[inputs.input]
datatype = "FP32"
shape = ["B", -1]
batch_axis = 0

[inputs.state]
datatype = "FP32"
shape = [2, "B", 128]
batch_axis = 1

[inputs.sr]
datatype = "INT64"
shape = []
batch_axis = "none"

[inputs.input_ids]
batch_axis = 0
padding = { axis = 1, value = 7 }

[outputs.output]
datatype = "FP32"
padded_axis = 1

[sequences]
idle_timeout = "1m"
count_max = 10
[[sequences.state]]
input = "state"
output = "stateN"

[[warmup]]
name = "one second"
batch_size = 8
count = 3
[warmup.inputs.input]
fill = "random"
shape = [512]
[warmup.inputs.state]
file = "warmup/state.raw"
[warmup.inputs.sr]
values = [16000]
"#;

#[test]
fn every_setting_of_config_toml_is_read() {
    let settings = ModelSettings::from_toml(EVERYTHING).unwrap();
    assert_eq!(settings.file_name.as_ref().unwrap().as_str(), "net.onnx");
    assert_eq!(settings.device.as_ref().unwrap().as_str(), "cuda:1");
    assert_eq!(settings.instances.unwrap().get(), 2);
    assert_eq!(settings.intra_op_threads.unwrap().get(), 4);
    assert_eq!(settings.optimization, Some(OptimizationLevel::Extended));
    let cache = CacheSettings {
        enabled: Some(false),
        time_to_live: Some(Duration::from_secs(600)),
        bytes: Some(ByteSize::mib(1)),
    };
    assert_eq!(settings.cache, cache);
    assert_eq!(settings.pinning, Some(Pinning::Cores));
    assert_eq!(settings.run_limit, Some(Duration::from_secs(30)));
    let batching = &settings.batching;
    assert_eq!(batching.queue_bytes_max, Some(ByteSize::mib(64)));
    assert_eq!(batching.allowed_sizes.iter().map(|size| size.get()).collect::<Vec<_>>(), [1, 4, 8]);
    assert_eq!(
        (batching.priority_levels.unwrap().get(), batching.default_priority.unwrap().get()),
        (5, 3),
    );
    assert_eq!(batching.target_latency, Some(Duration::from_millis(50)));
    let padding = PaddingSettings { axis: 1, value: Some(ElementValue::Integer(7)) };
    assert_eq!(settings.inputs["input_ids"].padding, Some(padding));
    assert_eq!(settings.outputs["output"].padded_axis, Some(1));
    let sequences = SequenceSettings {
        idle_timeout: Some(Duration::from_secs(60)),
        count_max: NonZeroUsize::new(10),
        state: vec![StateSettings { input: "state".to_owned(), output: "stateN".to_owned() }],
    };
    assert_eq!(settings.sequences, Some(sequences));
    assert_eq!(settings.versions, Some(VersionPolicy::Latest(2.try_into().unwrap())));
    let aliases = settings.aliases.iter().map(|(alias, version)| format!("{alias}={version}"));
    assert_eq!(aliases.collect::<Vec<_>>(), ["canary=4", "stable=3"]);
    let batching = &settings.batching;
    assert_eq!(batching.mode, Some(BatchingMode::Rows));
    assert_eq!(batching.size_max.unwrap().get(), 16);
    assert_eq!(batching.preferred_sizes.iter().map(|s| s.get()).collect::<Vec<_>>(), [4, 8]);
    assert_eq!(batching.delay_max, Some(Duration::from_millis(2)));
    assert_eq!(batching.dispatch_when_idle, Some(false));
    assert_eq!(batching.queue_requests_max.unwrap().get(), 100);
    let shape = |name: &str| settings.inputs[name].shape.as_ref().unwrap().to_string();
    assert_eq!([shape("input"), shape("state"), shape("sr")], ["[B,?]", "[2,B,128]", "[]"],);
    let axis = |name: &str| settings.inputs[name].batch_axis.unwrap();
    assert_eq!(
        [axis("input"), axis("state"), axis("sr")],
        [BatchAxis::At(0), BatchAxis::At(1), BatchAxis::None],
    );
    assert_eq!(settings.outputs["output"].shape, None);
    let [sample] = &settings.warmup[..] else { panic!("{:?}", settings.warmup) };
    assert_eq!((sample.name.as_str(), sample.count.unwrap().get()), ("one second", 3));
    assert_eq!(sample.batch_size.unwrap().get(), 8);
    assert_eq!(sample.inputs["input"].data, WarmupData::Random);
    assert_eq!(sample.inputs["input"].shape, Some(vec![512]));
    assert_eq!(sample.inputs["state"].data, WarmupData::File("warmup/state.raw".parse().unwrap()),);
    assert_eq!(sample.inputs["sr"].data, WarmupData::Values(vec![ElementValue::Integer(16000)]));
}

#[test]
fn what_is_read_can_be_written_and_read_again() {
    for text in [
        "",
        EVERYTHING,
        "versions = \"all\"",
        "versions = [1, \"3\"]",
        "cache = true",
        "[cache]\nbytes = \"1KiB\"",
        "[cache]\nbytes = 1234567",
        "[inputs.x.padding]\naxis = 2\nvalue = -0.5",
        "[inputs.x.padding]\naxis = 1",
    ] {
        let settings = ModelSettings::from_toml(text).unwrap();
        let written = toml::to_string(&settings).unwrap();
        assert_eq!(ModelSettings::from_toml(&written).unwrap(), settings, "{written}");
    }
    assert_eq!(toml::to_string(&ModelSettings::default()).unwrap(), "");
}

#[test]
fn a_mistake_is_named_with_its_key() {
    for (text, expected) in [
        (
            "instances_count = 2",
            "there is no key `instances_count`: did you mean `instances`?; known here: ",
        ),
        (
            "[batching]\ndelay_mx = \"2ms\"",
            "there is no key `batching.delay_mx`: did you mean `batching.delay_max`?",
        ),
        (
            "[inputs.x]\nbatchaxis = 1",
            "there is no key `inputs.x.batchaxis`: did you mean `inputs.x.batch_axis`?",
        ),
        ("[cache]\ntime_to_liv = \"1s\"", "did you mean `cache.time_to_live`?"),
        ("[inputs.x.padding]\naxs = 1", "did you mean `inputs.x.padding.axis`?"),
        ("[sequences]\nidle_timout = \"1s\"", "did you mean `sequences.idle_timeout`?"),
        (
            "[[sequences.state]]\ninputs = \"a\"\noutput = \"b\"",
            "did you mean `sequences.state.0.input`?",
        ),
        ("[[warmup]]\n[warmup.inputs.x]\nvalus = [1]", "did you mean `warmup.0.inputs.x.values`?"),
        ("versions = { newest = 1 }", "there is no key `versions.newest`"),
        ("instances = 0", "`instances`: "),
        ("instances = 1025", "`instances`: more than 1024"),
        ("intra_op_threads = 1025", "`intra_op_threads`: more than 1024"),
        ("[[warmup]]\ncount = 99999\n[[warmup]]\ncount = 2", "`warmup`: more than 100000 runs"),
        ("instances = \"two\"", "`instances`: expected a whole number from 1 on, got \"two\""),
        ("device = \"gpu\"", "`device`: `gpu` is no device: expected `auto`, `cpu`"),
        ("device = \"cuda:x\"", "`cuda:x` is no device"),
        ("file_name = \"../other/model.onnx\"", "is no path below the model's folder"),
        ("optimization = \"most\"", "`optimization`: "),
        ("versions = \"newest\"", "`versions`: "),
        ("versions = []", "at least one version"),
        ("versions = [\"beta\"]", "`beta` is no version: expected a number from 1 on"),
        ("versions = { latest = 0 }", "`versions.latest`: "),
        ("[aliases]\nstable = 0", "`0` is no version"),
        ("[aliases]\n7 = 1", "`7` is a number: an alias must not look like a version"),
        ("[aliases]\n\"a b\" = 1", "`a b` cannot name a version"),
        ("[inputs.x]\ndatatype = \"FLOAT\"", "unknown datatype `FLOAT`"),
        ("[inputs.x]\nshape = [-2]", "-2 is no dimension"),
        ("[inputs.x]\nbatch_axis = -1", "the number of an axis, counted from 0, or \"none\""),
        ("[inputs.x]\nbatch_axis = \"last\"", "the number of an axis, counted from 0, or \"none\""),
        ("[batching]\ndelay_max = 2", "`batching.delay_max`: "),
        ("[batching]\nsize_max = 4\npreferred_sizes = [8]", "8 is more than `batching.size_max`"),
        ("cache = \"yes\"", "`cache`: expected true, false or a"),
        ("[cache]\nbytes = \"many\"", "`cache.bytes`: "),
        ("pinning = \"numa\"", "`pinning`: "),
        ("run_limit = \"0s\"", "`run_limit`: no run takes no time"),
        ("[batching]\nsize_max = 4\nallowed_sizes = [1, 8]", "8 is more than `batching.size_max`"),
        (
            "[batching]\nallowed_sizes = [1, 8, 4]",
            "`batching.allowed_sizes`: 4 stands behind 8: sizes go up, each once",
        ),
        ("[batching]\nallowed_sizes = [4, 4]", "4 stands behind 4"),
        ("[batching]\nallowed_sizes = [0]", "`batching.allowed_sizes.0`: "),
        (
            "[batching]\nallowed_sizes = [4]\npreferred_sizes = [2]",
            "`batching.preferred_sizes`: 2 is not among `batching.allowed_sizes`",
        ),
        ("[batching]\npriority_levels = 101", "`batching.priority_levels`: more than 100"),
        ("[batching]\ndefault_priority = 0", "`batching.default_priority`: "),
        (
            "[batching]\npriority_levels = 2\ndefault_priority = 3",
            "`batching.default_priority`: 3 is more than `batching.priority_levels`: 2",
        ),
        ("[batching]\ntarget_latency = \"0ms\"", "`batching.target_latency`: no answer"),
        (
            "[inputs.x]\npadding = { axis = 0 }",
            "`inputs.x.padding.axis`: rows lie along axis 0: lengths differ along another one",
        ),
        ("[inputs.x]\nbatch_axis = 1\npadding = { axis = 1 }", "rows lie along axis 1"),
        ("[inputs.x]\npadding = { axis = 64 }", "64 is no axis"),
        ("[inputs.x]\npadding = { value = 1 }", "`inputs.x.padding`: "),
        ("[inputs.x]\npadded_axis = 1", "`padded_axis` is for outputs"),
        ("[outputs.x]\npadding = { axis = 1 }", "`padding` is for inputs"),
        ("[outputs.x]\npadded_axis = 1", "`outputs.x.padded_axis`: no input has `padding`"),
        ("[sequences]", "`sequences.state`: nothing is kept between requests"),
        (
            "[sequences]\nidle_timeout = \"0s\"\nstate = [{ input = \"a\", output = \"b\" }]",
            "`sequences.idle_timeout`: a sequence would be forgotten at once",
        ),
        (
            "[sequences]\nstate = [{ input = \"a\", output = \"b\" }, { input = \"a\", output = \"c\" }]",
            "`sequences.state.1.input`: `a` is named a second time",
        ),
        (
            "[sequences]\nstate = [{ input = \"a\", output = \"\" }]",
            "`sequences.state.0.output`: no name",
        ),
        (
            "[[warmup]]\ninputs.x = { fill = \"zero\", values = [1] }",
            "only one of `fill`, `file` and `values` can be given",
        ),
        ("[[warmup]]\ninputs.x.file = \"/etc/passwd\"", "is no path below the model's folder"),
        ("instances = ", "not TOML: TOML parse error at line 1, column 13"),
        ("instances = 1\ninstances = 2", "not TOML: TOML parse error at line 2, column 1"),
    ] {
        let error = ModelSettings::from_toml(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}\n{error}\n{expected}");
    }
}

#[test]
fn a_long_text_is_not_read() {
    let text = " ".repeat(LENGTH_MAX + 1);
    assert!(matches!(ModelSettings::from_toml(&text), Err(ConfigError::TooLong { .. })));
    let model = "m".parse().unwrap();
    assert!(matches!(ModelSettings::from_json(&text, &model), Err(ConfigError::TooLong { .. })));
    assert!(ModelSettings::from_pbtxt(text.as_bytes(), &model).is_err());
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let model = "m".parse().unwrap();
        let _ = ModelSettings::from_toml(&text);
        let _ = ModelSettings::from_json(&text, &model);
        let _ = ModelSettings::from_pbtxt(text.as_bytes(), &model);
    }

    #[test]
    fn no_lines_make_it_panic(lines in proptest::collection::vec(
        proptest::sample::select(EVERYTHING.lines().collect::<Vec<_>>()), 0..40)) {
        let _ = ModelSettings::from_toml(&lines.join("\n"));
    }
}
