//! `inferring infer` as a client of running servers, and the questions that `inferring inspect`
//! has ready, run as they are printed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use inferring_integration_tests::models::{self, Case, CaseTensor};
use inferring_integration_tests::ports::HeldPort;
use inferring_integration_tests::process::{Ended, Launch, Process};
use inferring_integration_tests::v2;
use serde_json::Value;

use crate::PROGRAM;

/// A gateway over one worker with the models of all recorded cases.
fn serve_all() -> Process {
    crate::serving("serve").args(models::cases().into_iter().map(|case| case.path)).start()
}

/// A question to the server.
fn infer(server: &Process, arguments: &[&str]) -> Ended {
    Launch::new(PROGRAM, ["infer"])
        .args(arguments)
        .args(["--url", &format!("http://{}", server.address())])
        .run()
}

#[track_caller]
fn assert_succeeds(ended: &Ended) {
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

/// A `.npy` file by the text of its format: no code of the system is used.
fn npy_file(tensor: &CaseTensor) -> Vec<u8> {
    let descriptor = match tensor.datatype {
        "FP16" => "<f2",
        "FP32" => "<f4",
        "FP64" => "<f8",
        "INT64" => "<i8",
        "UINT8" => "|u1",
        other => panic!("the cases have a tensor of {other}: write it here"),
    };
    let sizes: String = tensor.shape.iter().map(|size| format!("{size}, ")).collect();
    let head =
        format!("{{'descr': '{descriptor}', 'fortran_order': False, 'shape': ({sizes}), }}\n");
    let length = u16::try_from(head.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], head.as_bytes(), &tensor.bytes()].concat()
}

/// The shape in the head of a `.npy` file, and the elements behind it.
fn read_npy_file(path: &Path) -> (String, Vec<u8>) {
    let file = std::fs::read(path).unwrap();
    let end = file.iter().position(|&byte| byte == b'\n').unwrap();
    let head = String::from_utf8_lossy(&file[10..end]).into_owned();
    let (_, shape) = head.split_once("'shape': (").unwrap();
    (shape.split_once(')').unwrap().0.to_owned(), file[end + 1..].to_vec())
}

#[test]
fn every_recorded_case_is_answered_from_npy_files_to_npy_files() {
    let server = serve_all();
    let folder = tempfile::tempdir().unwrap();
    for Case { model, inputs, outputs, .. } in models::cases() {
        let mut arguments = vec![model.clone()];
        for input in &inputs {
            let path = folder.path().join(format!("{}.npy", input.name));
            std::fs::write(&path, npy_file(input)).unwrap();
            arguments.push(format!("--input={}=@{}", input.name, path.display()));
        }
        let files: Vec<_> =
            outputs.iter().map(|o| folder.path().join(format!("out-{}.npy", o.name))).collect();
        for (output, file) in outputs.iter().zip(&files) {
            arguments.push(format!("--output={}=@{}", output.name, file.display()));
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let ended = infer(&server, &arguments);
        assert_succeeds(&ended);
        assert!(ended.stdout.contains("by worker_1"), "{}", ended.stdout);
        for (output, file) in outputs.iter().zip(&files) {
            let (shape, elements) = read_npy_file(file);
            let sizes: Vec<u64> =
                shape.split(',').filter_map(|size| size.trim().parse().ok()).collect();
            assert_eq!(sizes, output.shape, "{model}");
            output.assert_alike_raw(&format!("{model}, {}", output.name), &elements);
        }
    }
}

#[test]
fn a_whole_request_is_answered_as_json() {
    fn flat(value: &Value) -> Vec<Value> {
        match value {
            Value::Array(inner) => inner.iter().flat_map(flat).collect(),
            other => vec![other.clone()],
        }
    }

    let server = serve_all();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("request.json");
    let input = format!("--input=@{}", path.display());
    for case in models::cases() {
        std::fs::write(&path, v2::json_request(&case).to_string()).unwrap();
        for more in [&["--format", "json"][..], &["--format", "json", "--json-tensors"]] {
            let ended = infer(&server, &[&[&*case.model, &*input], more].concat());
            assert_succeeds(&ended);
            let document: Value = serde_json::from_str(&ended.stdout).unwrap();
            assert_eq!(document["model_name"], *case.model);
            let outputs = document["outputs"].as_array().unwrap();
            assert_eq!(outputs.len(), case.outputs.len());
            for (output, expected) in outputs.iter().zip(&case.outputs) {
                let data = Value::Array(flat(&output["data"]));
                expected.assert_alike(&format!("{} {more:?}", case.model), &data);
            }
        }
    }
}

#[test]
fn standard_input_is_known_by_what_it_holds() {
    let server = crate::serving("serve").arg(models::named("int64_scale")).start();
    let [case] =
        &models::cases().into_iter().filter(|c| c.model == "int64_scale").collect::<Vec<_>>()[..]
    else {
        panic!("one case")
    };
    let rows = b"7,8,9\n-1,0,9007199254740993\n";
    for (content, expected) in [
        (rows.to_vec(), "[[21,24,27],[-3,0,27021597764222979]]"),
        (b" [[1,2,3]]".to_vec(), "[[3,6,9]]"),
        (b"{\"input\": [1,2,3]}".to_vec(), "[[3,6,9]]"),
        (
            npy_file(&CaseTensor {
                name: String::new(),
                datatype: "FP64",
                shape: vec![3],
                data: vec![1.into(), 2.into(), 3.into()],
            }),
            "[[3,6,9]]",
        ),
    ] {
        let mut child = Command::new(PROGRAM)
            .args(["infer", &case.model, "--input", "@-", "--format", "json"])
            .args(["--url", &format!("http://{}", server.address())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&content).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(stdout.contains(&format!("\"data\":{expected}")), "{stdout}");
    }
}

#[test]
fn what_is_refused_is_told_with_what_was_expected() {
    let server = crate::serving("serve")
        .args(["iris", "two_inputs", "uint8_sum", "poison_row"].map(|name| match name {
            "iris" => models::iris(),
            name => models::named(name),
        }))
        .start();
    let folder = tempfile::tempdir().unwrap();
    let complex = folder.path().join("complex.npy");
    let head = "{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }\n";
    let length = u16::try_from(head.len()).unwrap().to_le_bytes();
    let file = [b"\x93NUMPY\x01\x00", &length[..], head.as_bytes(), &[0; 8]].concat();
    std::fs::write(&complex, file).unwrap();
    let complex = format!("@{}", complex.display());
    let mut transcript = String::new();
    for arguments in [
        &["nothing", "-i", "5"][..],
        &["iris"],
        &["iris", "-i", "width=[1,2,3,4]"],
        &["iris", "-i", "[1,2,3]"],
        &["iris", "-i", "1,2,3,4", "-o", "species"],
        &["iris", "-i", "1,2,3,4", "-i", "1,2,3,4"],
        &["iris", "-i", &complex],
        &["iris", "-i", "@missing.npy"],
        &["iris", "-i", "@picture.png"],
        &["two_inputs", "-i", "a=1,2"],
        &["two_inputs", "-i", "1,2"],
    ] {
        let ended = infer(&server, arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{arguments:?}");
        let told = ended.stderr.replace(&folder.path().display().to_string(), "FOLDER");
        let asked = arguments.join(" ").replace(&folder.path().display().to_string(), "FOLDER");
        write!(transcript, "{asked}\n  {}\n", told.trim_end().replace('\n', "\n  ")).unwrap();
    }
    insta::assert_snapshot!(transcript);
    for (arguments, parts) in [
        (&["iris", "-i", "[1,2,3,\"4\"]"][..], ["expected FP32 [N,4]", "byte 7"]),
        (&["uint8_sum", "-i", "[[1,256]]"], ["expected UINT8 [N,L]", "256"]),
        (&["poison_row", "-i", "100"], ["idx=100", "HTTP 400"]),
    ] {
        let ended = infer(&server, arguments);
        assert_eq!(ended.code, Some(1), "{arguments:?}");
        assert!(parts.iter().all(|part| ended.stderr.contains(part)), "{}", ended.stderr);
    }
    let unknown_version = infer(&server, &["iris", "--version", "7", "-i", "1,2,3,4"]);
    assert_eq!(unknown_version.code, Some(1));
    assert!(unknown_version.stderr.contains("404"), "{}", unknown_version.stderr);
    for arguments in [&["iris", "-i", "=5"][..], &["iris", "-o", "y=y.txt"], &["a/b"]] {
        assert_eq!(infer(&server, arguments).code, Some(2), "{arguments:?}");
    }
}

#[test]
fn where_no_server_is_it_says_what_to_start() {
    let port = HeldPort::any();
    let url = format!("http://{}", port.address());
    let ended = Launch::new(PROGRAM, ["infer", "iris", "-i", "1,2,3,4", "--url", &url]).run();
    assert_eq!(ended.code, Some(1));
    assert_eq!(
        ended.stderr,
        format!(
            "error: cannot reach {url}: connection refused. Start a server with `inferring serve \
             MODEL.onnx`, or name another one with --url\n"
        ),
    );
}

/// The questions that `inspect` has ready for this client of the server.
fn examples(server: &Process, model: &Path, client: &str) -> String {
    let ended = Launch::new(PROGRAM, ["inspect"])
        .arg(model)
        .args(["--log", "error", "--examples", client])
        .set([format!("listen.gateway={}", server.address())])
        .run();
    assert_succeeds(&ended);
    ended.stdout
}

#[test]
fn the_examples_of_inspect_run_as_they_are_printed() {
    let server = serve_all();
    let program_folder = Path::new(PROGRAM).parent().unwrap().display();
    let path = format!("{program_folder}:{}", std::env::var("PATH").unwrap());
    for Case { model, path: file, outputs, .. } in models::cases() {
        let script = examples(&server, &file, "cli");
        let output =
            Command::new("sh").args(["-e", "-c", &script]).env("PATH", &path).output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{script}{}", String::from_utf8_lossy(&output.stderr));
        for CaseTensor { name, datatype, .. } in &outputs {
            assert!(stdout.contains(&format!("{name}  {datatype} [")), "{model}: {stdout}");
        }
        // The same as curl would send it: a URL and a body in single quotes.
        let script = examples(&server, &file, "curl");
        for command in script.split("curl ").skip(1) {
            let (url, rest) = command.split_once(char::is_whitespace).unwrap();
            let body = rest.split('\'').nth(1).unwrap();
            let (_, asked) = url.split_once(&server.address().to_string()).unwrap();
            let answer = server.client().post(asked, &[], body).ok();
            let answered = answer["outputs"].is_array() || answer["output_data"].is_array();
            assert!(answered, "{model}: {answer}");
        }
    }
}

#[test]
fn inspect_has_the_examples_in_its_json_too() {
    let server = crate::serving("serve").arg(models::iris()).start();
    let ended = Launch::new(PROGRAM, ["inspect", "--output", "json", "--log", "error"])
        .arg(models::iris())
        .set([format!("listen.gateway={}", server.address())])
        .run();
    assert_succeeds(&ended);
    let document: Value = serde_json::from_str(&ended.stdout).unwrap();
    for client in ["curl", "cli", "python", "grpc"] {
        let alone = examples(&server, &models::iris(), client);
        assert_eq!(document["examples"][client], alone, "{client}");
        assert!(alone.contains(&server.address().to_string()), "{alone}");
    }
}

#[test]
fn inspect_looks_at_the_newest_version_in_a_models_folder() {
    let folder = tempfile::tempdir().unwrap();
    for (version, file) in [("2", models::iris()), ("10", models::named("two_inputs"))] {
        let version = folder.path().join("flowers").join(version);
        std::fs::create_dir_all(&version).unwrap();
        std::fs::copy(file, version.join("model.onnx")).unwrap();
    }
    let inspect = |path: &Path| {
        Launch::new(PROGRAM, ["inspect", "--output", "json", "--log", "error"]).arg(path).run()
    };
    // The folder of the model, and a folder with just this model.
    for path in [folder.path().join("flowers"), folder.path().to_owned()] {
        let ended = inspect(&path);
        assert_succeeds(&ended);
        let document: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(
            (&document["name"], document["inputs"].as_array().unwrap().len()),
            (&"flowers".into(), 2)
        );
    }
    std::fs::copy(models::iris(), folder.path().join("iris.onnx")).unwrap();
    std::fs::create_dir_all(folder.path().join("more/1")).unwrap();
    std::fs::copy(models::iris(), folder.path().join("more/1/model.onnx")).unwrap();
    let ended = inspect(folder.path());
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("flowers") && ended.stderr.contains("more"), "{}", ended.stderr);
}

#[test]
fn inspect_goes_by_a_models_own_settings() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("flowers");
    std::fs::create_dir_all(model.join("1")).unwrap();
    std::fs::copy(models::iris(), model.join("1/model.onnx")).unwrap();
    let inspect = |settings: &str| {
        std::fs::write(model.join("config.toml"), settings).unwrap();
        Launch::new(PROGRAM, ["inspect", "--output", "json", "--log", "error"]).arg(&model).run()
    };
    for (settings, batches, reason) in [
        ("", true, "proved at load"),
        ("[batching]\nmode = \"alone\"", false, "declared in the configuration"),
    ] {
        let document: Value = serde_json::from_str(&inspect(settings).stdout).unwrap();
        assert_eq!(document["batches"], batches);
        let found = document["batching_reason"].as_str().unwrap();
        assert!(found.starts_with(reason), "{found}");
    }
    let ended = inspect("[inputs.petals]\nbatch_axis = 0");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("the model has no input `petals`"), "{}", ended.stderr);
}
