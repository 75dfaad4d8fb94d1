use std::fs;

use inferring_types::ShapeSpec;

use super::*;
use crate::repository::Repository;
use crate::settings::ModelSettings;

fn spec(name: &str, datatype: DataType, shape: &[i64]) -> TensorSpec {
    let dimensions = shape.iter().map(|size| match u64::try_from(*size) {
        Ok(size) => Dimension::Fixed(size),
        Err(_) => Dimension::Dynamic(None),
    });
    TensorSpec { name: name.into(), datatype, shape: ShapeSpec::new(dimensions) }
}

/// The requests of a model with that `config.toml` and those files of data.
fn warmup(
    config: &str,
    files: &[(&str, &[u8])],
    inputs: &[TensorSpec],
) -> Result<Vec<WarmupRequest>, WarmupError> {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("m/1")).unwrap();
    fs::create_dir_all(folder.path().join("m/data")).unwrap();
    fs::write(folder.path().join("m/1/model.onnx"), "x").unwrap();
    fs::write(folder.path().join("m/config.toml"), config).unwrap();
    for (name, content) in files {
        fs::write(folder.path().join("m/data").join(name), content).unwrap();
    }
    let repository = Repository::open([folder.path()]).unwrap();
    repository.plan(&"m".parse().unwrap()).expect(config).warmup(inputs)
}

fn error(config: &str, inputs: &[TensorSpec]) -> String {
    warmup(config, &[], inputs).expect_err(config).to_string()
}

#[test]
fn every_kind_of_data_fills_its_input() {
    let config = r#"
        [[warmup]]
        name = "w"
        count = 3
        [warmup.inputs]
        values = { shape = [2, 2], values = [1, 2.5, -3, 4] }
        file = { shape = [2], file = "data/numbers.raw" }
        random = { shape = [5], fill = "random" }
        texts = { shape = [2], values = ["a", "bc"] }
        flags = { values = [true, false], datatype = "BOOL" }
    "#;
    let inputs = [
        spec("values", DataType::Fp32, &[-1, 2]),
        spec("file", DataType::Int16, &[-1]),
        spec("random", DataType::Fp64, &[-1]),
        spec("texts", DataType::Bytes, &[-1]),
        spec("flags", DataType::Bool, &[2]),
        spec("absent", DataType::Int64, &[-1, 3]),
    ];
    let requests = warmup(config, &[("numbers.raw", &[1, 0, 2, 0])], &inputs).unwrap();
    let [request] = &requests[..] else { panic!("{requests:?}") };
    assert_eq!((request.name.as_str(), request.count), ("w", 3));
    let names: Vec<_> = request.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["values", "file", "random", "texts", "flags", "absent"]);
    let tensor = |index: usize| &request.inputs[index].tensor;
    assert_eq!(tensor(0).to_f32().unwrap(), [1.0, 2.5, -3.0, 4.0]);
    assert_eq!(tensor(0).shape().dimensions(), [2, 2]);
    assert_eq!(tensor(1).data()[..], [1, 0, 2, 0]);
    let random: Vec<_> =
        tensor(2).data().chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
    assert!(random.iter().all(|value| (0.0..1.0).contains(value)), "{random:?}");
    assert!(random.windows(2).any(|pair| pair[0] != pair[1]), "{random:?}");
    assert_eq!(tensor(3).data()[..], *b"\x01\0\0\0a\x02\0\0\0bc");
    assert_eq!(tensor(4).data()[..], [1, 0]);
    assert_eq!(tensor(5).shape().dimensions(), [1, 3]);
    assert_eq!(tensor(5).data()[..], [0; 24]);
    assert_eq!(warmup(config, &[("numbers.raw", &[1, 0, 2, 0])], &inputs).unwrap(), requests);
}

#[test]
fn rows_are_laid_along_the_axis_of_each_input() {
    let config = r#"
        [inputs.state]
        batch_axis = 1
        [inputs.sr]
        batch_axis = "none"
        [[warmup]]
        batch_size = 3
        [warmup.inputs]
        x = { shape = [2], values = [1, 2] }
        state = { shape = [2, 2], values = [1, 2, 3, 4] }
        sr = { values = [16000] }
        texts = { shape = [1], values = ["ab"] }
    "#;
    let inputs = [
        spec("x", DataType::Uint8, &[-1, 2]),
        spec("state", DataType::Uint8, &[2, -1, 2]),
        spec("sr", DataType::Int64, &[]),
        spec("texts", DataType::Bytes, &[-1, 1]),
        spec("other", DataType::Uint8, &[-1, 4]),
    ];
    let request = warmup(config, &[], &inputs).unwrap().remove(0);
    let tensor = |index: usize| &request.inputs[index].tensor;
    assert_eq!(tensor(0).shape().dimensions(), [3, 2]);
    assert_eq!(tensor(0).data()[..], [1, 2, 1, 2, 1, 2]);
    assert_eq!(tensor(1).shape().dimensions(), [2, 3, 2]);
    assert_eq!(tensor(1).data()[..], [1, 2, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4]);
    assert_eq!(tensor(2).shape().rank(), 0);
    assert_eq!(tensor(2).data()[..], 16000i64.to_le_bytes());
    assert_eq!(tensor(3).shape().dimensions(), [3, 1]);
    assert_eq!(tensor(3).data()[..], b"\x02\0\0\0ab".repeat(3));
    assert_eq!(tensor(4).shape().dimensions(), [3, 4]);
}

#[test]
fn every_datatype_can_be_filled() {
    for datatype in DataType::ALL {
        for fill in ["zero", "random"] {
            let config = format!("[[warmup]]\ninputs.x = {{ shape = [4], fill = \"{fill}\" }}");
            let requests = warmup(&config, &[], &[spec("x", datatype, &[-1])]).unwrap();
            assert_eq!(requests[0].inputs[0].tensor.elements(), 4, "{datatype}");
        }
    }
    let half = warmup(
        "[[warmup]]\ninputs.x = { values = [1, 0.5] }",
        &[],
        &[spec("x", DataType::Fp16, &[2])],
    );
    assert_eq!(half.unwrap()[0].inputs[0].tensor.data()[..], [0x00, 0x3C, 0x00, 0x38]);
}

#[test]
fn data_that_does_not_fit_is_refused_before_it_is_made() {
    let x = [spec("x", DataType::Fp32, &[-1, 2])];
    for (config, expected) in [
        (
            "[[warmup]]\nname = \"w\"\ninputs.y = {}",
            "warm-up sample `w`: the model has no input `y`",
        ),
        (
            "[[warmup]]\ninputs.x = { datatype = \"INT8\" }",
            "sample `number 1`, input `x`: INT8, and the model takes FP32",
        ),
        ("[[warmup]]\ninputs.x = { shape = [4], values = [1] }", "takes 16 bytes, got 4"),
        ("[[warmup]]\ninputs.x = { values = [\"a\", 1] }", "is no element of FP32"),
        ("[[warmup]]\ninputs.x = { values = [true, true] }", "is no element of FP32"),
        ("[[warmup]]\ninputs.x = { shape = [1000000000000] }", "elements are too many"),
        ("[[warmup]]\ninputs.x = { shape = [9000000000000000000, 9] }", "elements are too many"),
        (
            "[[warmup]]\nbatch_size = 4000000000\ninputs.x = { shape = [2] }",
            "elements are too many",
        ),
        (
            "[[warmup]]\ninputs.x.shape = [100000000]\n[[warmup]]\ninputs.x.shape = [200000000]",
            "elements are too many",
        ),
        (
            "[inputs.x]\nbatch_axis = 3\n[[warmup]]\nbatch_size = 2\ninputs.x = { shape = [2] }",
            "there is no axis 3",
        ),
        ("[[warmup]]\ninputs.x = { file = \"data/absent.raw\" }", "no data"),
    ] {
        let error = error(config, &x);
        assert!(error.contains(expected), "{config}\n{error}");
    }
    let out_of_range = "[[warmup]]\ninputs.x = { values = [300] }";
    assert!(
        error(out_of_range, &[spec("x", DataType::Uint8, &[1])]).contains("is no element of UINT8")
    );
}

#[test]
fn data_behind_a_link_that_leaves_the_folder_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("m/1")).unwrap();
    fs::write(folder.path().join("secret.raw"), [1]).unwrap();
    fs::write(folder.path().join("m/1/model.onnx"), "x").unwrap();
    let config = "[[warmup]]\ninputs.x = { file = \"x.raw\" }";
    fs::write(folder.path().join("m/config.toml"), config).unwrap();
    std::os::unix::fs::symlink("../secret.raw", folder.path().join("m/x.raw")).unwrap();
    let plan = Repository::open([folder.path()]).unwrap().plan(&"m".parse().unwrap()).unwrap();
    let error = plan.warmup(&[spec("x", DataType::Uint8, &[1])]).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("leads out of the repository"), "{cause}");
}

#[test]
fn a_sample_of_tritons_gives_the_same_request() {
    let text = r#"max_batch_size: 4 model_warmup { name: "w" batch_size: 2 inputs {
        key: "x" value { data_type: TYPE_INT32 dims: [ 3 ] zero_data: true } } }"#;
    let (settings, _) = ModelSettings::from_pbtxt(text.as_bytes(), &"m".parse().unwrap()).unwrap();
    let toml = toml::to_string(&settings).unwrap();
    let requests = warmup(&toml, &[], &[spec("x", DataType::Int32, &[-1, 3])]).unwrap();
    assert_eq!(requests[0].inputs[0].tensor.shape().dimensions(), [2, 3]);
}
