//! Where a Python environment keeps a package, without importing it.
//!
//! Importing `onnxruntime` would load the library into the interpreter and take seconds;
//! `importlib.util.find_spec` only looks for the folder.

use std::ffi::OsStr;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long an interpreter may take to answer. A cold one on a busy machine needs about one
/// second; one that hangs must not keep a server from starting.
const PATIENCE: Duration = Duration::from_secs(5);

/// An empty entry of the path is the current folder: whoever can put a file there must not
/// choose the library, so it is dropped before anything is looked up.
const QUESTION: &str = "\
import sys
sys.path = [p for p in sys.path if p]
import importlib.util
spec = importlib.util.find_spec(sys.argv[1])
for folder in (spec and spec.submodule_search_locations) or []:
    print(folder)
    break
";

/// The interpreter `python3` of a search path such as `PATH`.
pub(super) fn on_path(search_path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(search_path)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("python3"))
        .find(|file| file.is_file())
}

/// The package folders of the environment at `prefix`, the highest Python version first.
pub(super) fn packages_of(prefix: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten();
    let minor_version = |entry: &std::fs::DirEntry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("python3.")?.parse::<u32>().ok()
    };
    let mut found = entries
        .filter_map(|entry| Some((minor_version(&entry)?, entry.path().join("site-packages"))))
        .filter(|(_, folder)| folder.is_dir())
        .collect::<Vec<_>>();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// Asks an interpreter for the folder of a package; `None` where it has none of that name.
///
/// # Errors
/// Says in words why there was no answer: it cannot be started, it failed, it took too long.
pub(super) fn package_folder(interpreter: &Path, package: &str) -> Result<Option<PathBuf>, String> {
    package_folder_within(interpreter, package, PATIENCE)
}

fn package_folder_within(
    interpreter: &Path,
    package: &str,
    patience: Duration,
) -> Result<Option<PathBuf>, String> {
    let mut child = Command::new(interpreter)
        .args(["-c", QUESTION, package])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot be started: {error}"))?;
    let mut stdout = child.stdout.take().expect("piped above");
    // A read has no time limit of its own. The thread ends when the pipe closes; it is waited for
    // unless the interpreter was killed, for then a descendant may hold the pipe open.
    let (sender, answer) = mpsc::sync_channel(1);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        let read = stdout.read_to_string(&mut text);
        let _ = sender.send(read.map(|_| text));
    });
    let answer = answer.recv_timeout(patience);
    if answer.is_ok() {
        let _ = reader.join();
    } else {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| format!("cannot be waited for: {error}"))?;
    let Ok(text) = answer else {
        return Err(format!("no answer within {} s", patience.as_secs_f32()));
    };
    let text = text.map_err(|error| format!("gave no text: {error}"))?;
    if !status.success() {
        return Err(format!("failed with {status}"));
    }
    let folder = text.trim_end_matches('\n');
    Ok((!folder.is_empty()).then(|| PathBuf::from(folder)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use parking_lot::{Mutex, MutexGuard};
    use tempfile::TempDir;

    use super::*;

    /// A process that is started while another thread still writes an executable inherits the
    /// open file, and then that executable cannot be started (`ETXTBSY`): one test at a time.
    fn one_at_a_time() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock()
    }

    /// An executable that stands in for an interpreter.
    fn interpreter(folder: &TempDir, script: &str) -> PathBuf {
        let file = folder.path().join("python3");
        fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    #[test]
    fn answers_are_read_and_failures_told() {
        let _turn = one_at_a_time();
        let folder = TempDir::new().unwrap();
        for (script, expected) in [
            ("echo /opt/packages/onnxruntime", Ok(Some("/opt/packages/onnxruntime".into()))),
            ("exit 0", Ok(None)),
            ("exit 3", Err("failed with exit status: 3".to_owned())),
        ] {
            let interpreter = interpreter(&folder, script);
            assert_eq!(package_folder(&interpreter, "onnxruntime"), expected);
        }
        let absent = package_folder(&folder.path().join("absent"), "onnxruntime").unwrap_err();
        assert!(absent.starts_with("cannot be started: "), "{absent}");
    }

    #[test]
    fn an_interpreter_that_hangs_is_given_up() {
        let _turn = one_at_a_time();
        let folder = TempDir::new().unwrap();
        let interpreter = interpreter(&folder, "exec sleep 600");
        let answer = package_folder_within(&interpreter, "x", Duration::from_millis(50));
        assert_eq!(answer, Err("no answer within 0.05 s".to_owned()));
    }

    #[test]
    fn a_real_interpreter_finds_a_package_but_not_in_the_current_folder() {
        let _turn = one_at_a_time();
        let Some(python) = std::env::var_os("PATH").and_then(|path| on_path(&path)) else {
            panic!("this test asks `python3`: install it");
        };
        let found = package_folder(&python, "json").unwrap().unwrap();
        assert!(found.ends_with("json") && found.join("__init__.py").is_file());
        assert_eq!(package_folder(&python, "no_such_package_anywhere"), Ok(None));
        // The tests of a crate run in its folder, which holds a folder `src`.
        assert!(Path::new("src").is_dir());
        assert_eq!(package_folder(&python, "src"), Ok(None));
    }

    #[test]
    fn only_absolute_folders_of_the_search_path_count() {
        let folder = TempDir::new().unwrap();
        let file = interpreter(&folder, "exit 0");
        let path = std::env::join_paths([Path::new("."), folder.path()]).unwrap();
        assert_eq!(on_path(&path), Some(file));
    }

    #[test]
    fn the_newest_python_of_an_environment_comes_first() {
        let prefix = TempDir::new().unwrap();
        for version in ["python3.9", "python3.12", "python3.x"] {
            fs::create_dir_all(prefix.path().join("lib").join(version).join("site-packages"))
                .unwrap();
        }
        let found = packages_of(prefix.path());
        assert_eq!(found.len(), 2);
        assert!(found[0].ends_with("python3.12/site-packages"));
    }
}
