//! A start that fails says so in one paragraph: what was wanted, what went wrong, what to do.

use std::net::TcpListener;

use inferring_integration_tests::models;
use inferring_integration_tests::process::{Ended, Launch};
use inferring_integration_tests::waiting::LONG;

use crate::{PROGRAM, serving};

/// Sees that a start failed in one paragraph that has all of these words.
#[track_caller]
fn assert_refused(ended: &Ended, words: &[&str]) {
    let Ended { code, stdout, stderr } = ended;
    assert!(code.is_some_and(|code| code != 0), "{code:?}: {stderr}");
    assert_eq!(stdout, "", "nothing is announced");
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("not one error: {stderr}") };
    assert!(stderr.ends_with(&format!("{error}\n")), "the error is not the last line: {stderr}");
    for word in words {
        assert!(error.contains(word), "no `{word}` in: {error}");
    }
    assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
}

#[test]
fn a_model_that_is_not_there_is_named() {
    for command in ["serve", "worker"] {
        let ended = serving(command).arg("no/such/model.onnx").run();
        assert_refused(&ended, &["`no/such/model.onnx`", "No such file or directory"]);
    }
    let ended = Launch::new(PROGRAM, ["inspect", "no/such/model.onnx"]).run();
    assert_refused(&ended, &["`no/such/model.onnx`", "No such file or directory"]);
}

#[test]
fn a_model_that_cannot_be_loaded_is_named_with_the_reason() {
    let corrupt = models::named("corrupt");
    for command in ["serve", "worker"] {
        let ended = serving(command).arg(&corrupt).run();
        assert_refused(&ended, &["corrupt.onnx", "not a model that can be loaded"]);
        // A good model beside it does not hide it.
        let ended = serving(command).arg(models::iris()).arg(&corrupt).run();
        assert_refused(&ended, &["corrupt.onnx"]);
    }
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.onnx");
    std::fs::write(&empty, b"").unwrap();
    assert_refused(&serving("serve").arg(&empty).run(), &["empty.onnx"]);
    assert_refused(&serving("serve").arg(folder.path()).run(), &["error: "]);
}

#[test]
fn two_models_of_one_name_are_refused() {
    let ended = serving("serve").args([models::iris(), models::iris()]).run();
    assert_refused(&ended, &["`iris`", "rename"]);
}

#[test]
fn without_any_model_the_places_to_name_one_are_told() {
    for command in ["serve", "worker"] {
        assert_refused(&serving(command).run(), &["no model", "MODEL_PATH", "models"]);
    }
}

#[test]
fn a_worker_takes_its_model_from_the_environment() {
    let worker = serving("worker").env("MODEL_PATH", models::iris()).start();
    assert_eq!(worker.client().health()["model"], "iris");
}

/// Where the system gives large pages to who asks, a worker's memory is such that may have them.
///
/// Not after each start: glibc 2.36 compares the system's setting, when it first gives out memory,
/// together with the byte of its stack behind it, and knows it only where that is zero.
#[cfg(target_os = "linux")]
#[test]
fn a_worker_asks_for_large_pages_unless_its_user_decided() {
    let modes = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let offered = modes.is_ok_and(|modes| modes.contains("[madvise]"));
    let asks = |decided: Option<&str>| {
        let model = models::named("time_major_cumsum");
        let launch = serving("worker").arg(model).env_remove("GLIBC_TUNABLES");
        let launch = decided.into_iter().fold(launch, |l, value| l.env("GLIBC_TUNABLES", value));
        let worker = launch.start();
        let environment = worker.told_by_system("environ");
        let mut variables = environment.split('\0');
        let tunables = variables.find_map(|variable| variable.strip_prefix("GLIBC_TUNABLES="));
        assert_eq!(tunables, decided.or(offered.then_some("glibc.malloc.hugetlb=1")));
        // It asks for each piece of memory that is large enough for such a page, as is the answer
        // to this, which is kept.
        let path = "/v2/models/time_major_cumsum/infer";
        let raw = [("inference-header-content-length", "0")];
        assert_eq!(worker.client().post(path, &raw, vec![0; 8 << 20]).status, 200);
        let memory = worker.told_by_system("smaps");
        let mut flags = memory.lines().filter_map(|line| line.strip_prefix("VmFlags:"));
        flags.any(|flags| flags.split_whitespace().any(|flag| flag == "hg"))
    };
    assert_eq!((0..30).any(|_| asks(None)), offered);
    assert!(!asks(Some("glibc.malloc.hugetlb=0")));
}

#[test]
fn a_gateway_without_workers_says_how_to_name_them() {
    assert_refused(&serving("gateway").run(), &["no worker", "inferring gateway localhost:8001"]);
    assert_refused(&serving("gateway").arg("nowhere").run(), &["`nowhere`", "HOST:PORT"]);
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (command, argument) in [
        ("serve", models::iris().into_os_string()),
        ("worker", models::iris().into_os_string()),
        ("gateway", "127.0.0.1:1".into()),
    ] {
        let ended = Launch::new(PROGRAM, [command, "--listen", &address]).arg(argument).run();
        assert_refused(&ended, &[&address, "in use", "--listen"]);
    }
}

#[test]
fn an_address_that_is_none_is_refused() {
    let ended = Launch::new(PROGRAM, ["serve", "--listen", "here"]).arg(models::iris()).run();
    assert_refused(&ended, &["`here`", "host:port"]);
}

#[test]
fn a_library_that_was_named_and_is_not_there_is_named_back() {
    let launch = serving("serve").arg(models::iris());
    let ended = launch.clone().env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so").run();
    assert_refused(&ended, &["/nowhere/libonnxruntime.so", "ORT_DYLIB_PATH"]);
    let ended = launch.args(["--onnxruntime", "/nowhere"]).run();
    assert_refused(&ended, &["`/nowhere`", "named by flag"]);
}

#[test]
fn without_onnx_runtime_the_command_that_gets_it_is_told() {
    let empty = tempfile::tempdir().unwrap();
    let launch = serving("serve")
        .arg(models::iris())
        .env("HOME", empty.path())
        .env("XDG_CACHE_HOME", empty.path())
        .env("PATH", empty.path());
    let launch = ["ORT_DYLIB_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH"]
        .into_iter()
        .fold(launch, Launch::env_remove);
    let mut process = launch.spawn();
    if let Some(address) = process.ready_or_ended() {
        // The system itself has the library, in a folder that no variable leads away from.
        let stats = inferring_integration_tests::client::Client::new(address).health();
        assert_eq!(stats["healthy"], true);
        return;
    }
    let ended = process.wait_for_end(LONG);
    assert_refused(&ended, &["ONNX Runtime is not installed", "pip install onnxruntime"]);
}

#[test]
fn settings_that_do_not_exist_or_do_not_fit_are_named() {
    let launch = || serving("serve").arg(models::iris());
    let ended = launch().set(["worker.cache.entires=5"]).run();
    assert_refused(&ended, &["`worker.cache.entires`", "did you mean `worker.cache.entries`?"]);
    let ended = launch().set(["worker.batching.size_max=0"]).run();
    assert_refused(&ended, &["worker.batching.size_max", "command line"]);
    let ended = launch().env("INFERRING_GATWAY__PROBE", "5").run();
    assert_refused(&ended, &["gatway", "INFERRING_", "did you mean `gateway`?"]);
    let ended = launch().args(["--config", "no/such/file.toml"]).run();
    assert_refused(&ended, &["`no/such/file.toml`"]);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("inferring.toml");
    std::fs::write(&file, "[server]\nbody_size_maximum = \"1MiB\"\n").unwrap();
    let ended = launch().arg("--config").arg(&file).run();
    assert_refused(&ended, &["`server.body_size_maximum`", "inferring.toml", "body_size_max`?"]);
    let ended = launch().args(["--device", "gpu"]).run();
    assert_refused(&ended, &["backend.device", "gpu"]);
}

#[test]
fn cuda_is_used_where_it_was_asked_for_or_the_start_fails_with_the_loaders_reason() {
    let launch = serving("worker").arg(models::iris());
    let mut process = launch.clone().args(["--device", "cuda"]).spawn();
    let cuda_works = process.ready_or_ended().is_some();
    if cuda_works {
        let health = process.client().health();
        assert_eq!(health["provider"], "CUDAExecutionProvider", "{health}");
    } else {
        let ended = process.wait_for_end(LONG);
        assert_refused(&ended, &["cannot run models on cuda:0", "CUDA"]);
    }
    // Without being told, the same is found out, and where there is none the reason is kept.
    let mut process = launch.start();
    let health = process.client().health();
    let model = &health["models"][0];
    if cuda_works {
        assert_eq!(health["provider"], "CUDAExecutionProvider", "{health}");
    } else {
        assert_eq!(health["provider"], "CPUExecutionProvider", "{health}");
        assert!(model["fallback_reason"].as_str().is_some_and(|why| why.contains("CUDA")));
        process.terminate();
        let Ended { stderr, .. } = process.wait_for_end(LONG);
        assert_eq!(stderr.matches("CUDA cannot be used").count(), 1, "{stderr}");
    }
}

#[test]
fn the_cpu_is_used_where_it_was_asked_for() {
    let mut worker = serving("worker").arg(models::iris()).args(["--device", "cpu"]).start();
    let health = worker.client().health();
    assert_eq!(health["provider"], "CPUExecutionProvider");
    assert_eq!(health["models"][0].get("fallback_reason"), None);
    worker.terminate();
    let Ended { stderr, .. } = worker.wait_for_end(LONG);
    assert!(!stderr.contains("CUDA"), "{stderr}");
}
