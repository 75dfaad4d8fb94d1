//! With `--watch` a worker follows what becomes of its folder, without being told.

use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

use inferring_integration_tests::client::Client;
use inferring_integration_tests::folder::ModelFolder;
use inferring_integration_tests::load::Load;
use inferring_integration_tests::scaled::{self, Form};
use inferring_integration_tests::waiting::{LONG, wait_for, wait_until};

use crate::versions::index_of;
use crate::{cluster, serving};

const MODEL: &str = "/v2/models/scale";

fn answering(client: &Client) -> Result<String, String> {
    scaled::ask(client, MODEL, Form::Json, [1, 2, 3]).map(|answered| answered.version)
}

#[track_caller]
fn wait_for_version(client: &Client, version: &str) {
    wait_until(&format!("version {version} answers"), LONG, || {
        answering(client).is_ok_and(|answering| answering == version)
    });
}

#[track_caller]
fn wait_until_gone(client: &Client) {
    wait_until("the model is gone", LONG, || client.get(MODEL).status == 404);
    assert!(answering(client).unwrap_err().starts_with("status 404"));
}

#[test]
fn versions_and_models_that_come_are_served_and_those_that_go_are_not_under_load() {
    let folders = [(); 3].map(|()| {
        let first = scaled::version(1);
        ModelFolder::new().with("scale", 1, &first).with("steady", 1, &first)
    });
    let cluster = cluster()
        .folders(&folders)
        .worker_setting("worker.watch=50ms")
        .gateway_setting("gateway.probe.interval=100ms")
        .start();
    let client = cluster.client();
    let newest = |client: &Client, n| scaled::ask_nth(client, MODEL, n).map(|a| a.version);
    let load = Load::asking(client.address(), 4, newest);
    let steady = Load::asking(client.address(), 2, |client, n| {
        scaled::ask_nth(client, "/v2/models/steady", n).map(|answered| answered.version)
    });
    load.wait_for_more(50);
    folders.iter().for_each(|folder| folder.put("scale", 2, &scaled::version(2)));
    for worker in 1..=3 {
        wait_for_version(&cluster.worker(worker).client(), "2");
    }
    let everywhere = Instant::now();
    load.wait_for_more(100);
    let report = load.finish();
    report.assert_none_failed();
    assert!(report.by("1").all(|sample| sample.asked < everywhere));

    // Back to the version before, while clients ask.
    let load = Load::asking(client.address(), 4, newest);
    folders.iter().for_each(|folder| folder.remove("scale", 2));
    for worker in 1..=3 {
        wait_for_version(&cluster.worker(worker).client(), "1");
    }
    let back = Instant::now();
    load.wait_for_more(100);
    let report = load.finish();
    report.assert_none_failed();
    assert!(report.by("2").all(|sample| sample.asked < back));

    folders.iter().for_each(|folder| folder.remove_model("scale"));
    wait_until_gone(&client);
    folders.iter().for_each(|folder| folder.put("scale", 7, &scaled::version(7)));
    wait_for_version(&client, "7");
    let report = steady.finish();
    report.assert_none_failed();
    assert_eq!(report.nodes().into_iter().collect::<Vec<_>>(), ["1"]);
}

#[test]
fn the_flag_is_understood_by_a_worker_and_by_serve_and_nothing_is_watched_without_it() {
    let folder = ModelFolder::new().with("scale", 1, &scaled::version(1));
    let unwatched = serving("worker").arg(folder.path()).start();
    let watched = [("worker", "--watch=50ms"), ("serve", "--watch=50ms")]
        .map(|(command, watch)| serving(command).arg(folder.path()).arg(watch).start());
    folder.put("scale", 2, &scaled::version(2));
    for process in &watched {
        wait_for_version(&process.client(), "2");
    }
    folder.remove_model("scale");
    for process in &watched {
        wait_until_gone(&process.client());
    }
    // The same changes have had their time here.
    assert_eq!(answering(&unwatched.client()).unwrap(), "1");
}

#[test]
fn a_version_that_is_being_copied_is_left_in_peace_until_it_is_whole() {
    const INTERVAL: Duration = Duration::from_millis(300);
    let folder = ModelFolder::new().with("scale", 1, &scaled::version(1));
    let process = serving("worker").arg(folder.path()).arg("--watch=300ms").start();
    let client = process.client();
    for version in 2..12 {
        let copy = copy_slowly(&folder, version, 8 * INTERVAL, || {
            answering(&client).as_deref() == Ok("1") && index_of(&client, "scale").len() == 1
        });
        wait_for_version(&client, &version.to_string());
        if copy.pause_max < INTERVAL {
            assert!(copy.checks > 10, "{} checks", copy.checks);
            assert!(copy.in_peace, "it was loaded before it was whole");
            return;
        }
        // The machine was busy with other things in the middle of the copy, which could then not
        // be told from one that has ended: this one proves nothing.
        folder.remove("scale", version);
        wait_for_version(&client, "1");
    }
    panic!("none of ten copies went on without a pause");
}

/// A copy that took its time.
struct Copy {
    /// The longest time between two pieces.
    pause_max: Duration,
    /// How often was looked whether all is as it was.
    checks: u32,
    /// Whether it always was.
    in_peace: bool,
}

/// Writes a version of `scale` piece by piece for at least `duration`, and looks between the
/// pieces.
fn copy_slowly(
    folder: &ModelFolder,
    version: u64,
    duration: Duration,
    mut is_as_it_was: impl FnMut() -> bool,
) -> Copy {
    const PIECE: usize = 64;
    let path = folder.version("scale", version);
    std::fs::create_dir(&path).unwrap();
    let mut file = File::create(path.join("model.onnx")).unwrap();
    let content = behind_a_long_text(&scaled::version(version));
    let mut pieces = content.chunks(PIECE);
    let (started, mut last) = (Instant::now(), Instant::now());
    let mut copy = Copy { pause_max: Duration::ZERO, checks: 0, in_peace: true };
    while started.elapsed() < duration {
        file.write_all(pieces.next().expect("the text is longer than it takes")).unwrap();
        copy.pause_max = copy.pause_max.max(last.elapsed());
        last = Instant::now();
        copy.in_peace &= is_as_it_was();
        copy.checks += 1;
    }
    pieces.for_each(|piece| file.write_all(piece).unwrap());
    copy.pause_max = copy.pause_max.max(last.elapsed());
    copy
}

/// A model with a text of 4 MiB before all else in its file. Without the end of that text, the
/// file is no model.
fn behind_a_long_text(model: &[u8]) -> Vec<u8> {
    // The tag of `doc_string`, and its length in groups of seven bits, the lowest first.
    let head = [0x32, 0x80, 0x80, 0x80, 0x02];
    [head.as_slice(), &vec![b' '; 4 << 20], model].concat()
}

#[test]
fn what_cannot_be_loaded_is_told_and_what_repairs_it_is_served() {
    let folder = ModelFolder::new().with("scale", 1, &scaled::version(1));
    let process = serving("worker").arg(folder.path()).arg("--watch=50ms").start();
    let client = process.client();
    folder.put("scale", 2, b"no model");
    let reason = wait_for("the index says what is wrong", LONG, || {
        let index = index_of(&client, "scale").into_iter();
        index
            .filter(|(version, _, _)| version == "2")
            .map(|(_, _, reason)| reason)
            .find(|r| !r.is_empty())
    });
    assert!(reason.contains("not a model that can be loaded"), "{reason}");
    assert_eq!(answering(&client).unwrap(), "1");
    folder.remove("scale", 2);
    folder.put("scale", 2, &scaled::version(2));
    wait_for_version(&client, "2");
}
