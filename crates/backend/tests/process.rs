//! What holds for the process as a whole: one environment, one thread pool but for models that
//! ask for their own, no telemetry.
//!
//! It counts the threads of the process, so this file holds one test.

use std::num::NonZeroUsize;
use std::path::Path;

use inferring_backend::ort::library::Places;
use inferring_backend::ort::{Device, OrtBackend, OrtConfig, StartError};
use inferring_backend::{Backend as _, Cores, LoadOptions, Pinning};
use inferring_types::Tensor;

fn config(threads: usize) -> OrtConfig {
    OrtConfig {
        device: Device::Cpu,
        intra_op_threads: NonZeroUsize::new(threads),
        ..OrtConfig::default()
    }
}

#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("a Linux system").count()
}

/// How many threads may run on this core only.
#[cfg(target_os = "linux")]
fn bound_to(core: usize) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a Linux system");
    let statuses =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("status")).ok());
    let line = format!("Cpus_allowed_list:\t{core}");
    statuses.filter(|status| status.lines().any(|other| other == line)).count()
}

#[cfg(target_os = "linux")]
#[test]
fn a_process_has_one_environment_whose_threads_all_sessions_share() {
    // The library is named, since the search itself may start a process and a thread.
    let library = Places::of_process(None).find().unwrap_or_else(|error| panic!("{error}")).path;
    let config = |threads| OrtConfig { library: Some(library.clone()), ..config(threads) };
    let missing = OrtConfig { library: Some("/absent/libonnxruntime.so".into()), ..config(3) };
    let error = OrtBackend::start(missing).unwrap_err().to_string();
    assert!(error.contains("`/absent/libonnxruntime.so`"), "{error}");

    let before = threads();
    let backend = OrtBackend::start(config(3)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(std::env::var("ORT_DISABLE_TELEMETRY").as_deref(), Ok("1"));
    let started = threads();
    assert_eq!(started, before + 2, "the third of three threads is the caller's");

    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../integration-tests/models/slow.onnx");
    let load = |options| backend.load(&model, &options).unwrap();
    let mut models = (0..5).map(|_| load(LoadOptions::default())).collect::<Vec<_>>();
    let input = Tensor::from_f32([1, 4].into(), &[1.0; 4]).unwrap();
    for model in &mut models {
        model.session.execute(std::slice::from_ref(&input)).unwrap();
    }
    assert_eq!(threads(), started, "sessions must not bring threads of their own");

    for (own, brings) in [(1, 0), (4, 3)] {
        let options =
            LoadOptions { intra_op_threads: NonZeroUsize::new(own), ..LoadOptions::default() };
        let mut model = load(options);
        model.session.execute(std::slice::from_ref(&input)).unwrap();
        assert_eq!(threads(), started + brings, "{own} threads of its own");
        drop(model);
        assert_eq!(threads(), started, "threads of its own end with a session");
    }

    let cores = Cores::of_process().numbers;
    let last = *cores.last().expect("a process has a core");
    let bound = || bound_to(last);
    let bound_before = bound();
    let options = LoadOptions {
        intra_op_threads: NonZeroUsize::new(3),
        pinning: Pinning::Cores(vec![last]),
        ..LoadOptions::default()
    };
    let mut model = load(options);
    model.session.execute(std::slice::from_ref(&input)).unwrap();
    assert_eq!(threads(), started + 2);
    assert_eq!(bound(), bound_before + 2, "the pool's threads are bound, the caller's is not");
    drop(model);

    let again = OrtBackend::start(config(3)).unwrap();
    assert_eq!(again.status(), backend.status());
    let spinning = OrtConfig { spinning: true, ..config(3) };
    for other in [config(2), spinning] {
        let error = OrtBackend::start(other).unwrap_err();
        assert!(matches!(error, StartError::OtherSettings { .. }), "{error}");
    }
    assert_eq!(threads(), started);

    let searched = OrtConfig { library: None, ..config(3) };
    assert!(OrtBackend::start(searched).is_ok(), "the same library, however it was found");
}
