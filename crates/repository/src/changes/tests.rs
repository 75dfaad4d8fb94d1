use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::repository::Repository;

fn put(folder: &TempDir, file: &str, content: &str) {
    let path = folder.path().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn models() -> (TempDir, Repository) {
    let folder = tempfile::tempdir().unwrap();
    put(&folder, "a/1/model.onnx", "a");
    put(&folder, "a/1/model.onnx.data", "weights");
    put(&folder, "b.onnx", "b");
    let repository = Repository::open([folder.path()]).unwrap();
    (folder, repository)
}

fn text(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| format!("{} {:?}", change.name, change.kind)).collect()
}

#[test]
fn every_kind_of_change_is_seen() {
    type Act = fn(&Path);
    let acts: [(&str, Act, &[&str]); 13] = [
        ("nothing", |_| {}, &[]),
        ("a longer file", |f| fs::write(f.join("b.onnx"), "longer").unwrap(), &["b Changed"]),
        (
            "external data",
            |f| fs::write(f.join("a/1/model.onnx.data"), "").unwrap(),
            &["a Changed"],
        ),
        ("a longer name's data", |f| fs::write(f.join("bc.onnx.data"), "").unwrap(), &[]),
        (
            "data as another exporter names it",
            |f| fs::write(f.join("b.onnx_data"), "").unwrap(),
            &["b Changed"],
        ),
        (
            "data beside a single file",
            |f| fs::write(f.join("b.onnx.data"), "").unwrap(),
            &["b Changed"],
        ),
        ("a configuration", |f| fs::write(f.join("a/config.toml"), "").unwrap(), &["a Changed"]),
        ("a version", |f| fs::create_dir(f.join("a/2")).unwrap(), &["a Changed"]),
        ("a new model", |f| fs::write(f.join("c.onnx"), "c").unwrap(), &["c Added"]),
        ("a model that goes", |f| fs::remove_dir_all(f.join("a")).unwrap(), &["a Removed"]),
        ("another of its name", |f| fs::create_dir_all(f.join("b/1")).unwrap(), &["b Changed"]),
        ("a hidden file", |f| fs::write(f.join("a/1/.model.onnx.part"), "x").unwrap(), &[]),
        ("a file that is no model", |f| fs::write(f.join("notes.txt"), "x").unwrap(), &[]),
    ];
    for (what, act, expected) in acts {
        let (folder, repository) = models();
        let before = repository.scan();
        act(folder.path());
        let changes = repository.scan().changes_since(&before);
        assert_eq!(text(&changes), expected, "{what}");
    }
}

#[test]
fn a_file_of_equal_length_put_in_the_place_of_another_is_a_change() {
    let (folder, repository) = models();
    let before = repository.scan();
    let old = fs::metadata(folder.path().join("b.onnx")).unwrap();
    put(&folder, ".new", "B");
    let new = fs::File::options().write(true).open(folder.path().join(".new")).unwrap();
    new.set_modified(old.modified().unwrap()).unwrap();
    fs::rename(folder.path().join(".new"), folder.path().join("b.onnx")).unwrap();
    assert_eq!(text(&repository.scan().changes_since(&before)), ["b Changed"]);
}

#[test]
fn a_model_that_can_no_longer_be_served_is_a_change_though_its_files_are_the_same() {
    let (folder, repository) = models();
    let outside = tempfile::tempdir_in(folder.path().parent().unwrap()).unwrap();
    let at = |path: &str| folder.path().join(path);
    put(&folder, ".store/model.onnx", "c");
    fs::hard_link(at(".store/model.onnx"), outside.path().join("model.onnx")).unwrap();
    symlink(".store", at(".now")).unwrap();
    fs::create_dir_all(at("c/1")).unwrap();
    symlink("../../.now/model.onnx", at("c/1/model.onnx")).unwrap();
    let before = repository.scan();
    assert!(before.model(&"c".parse().unwrap()).unwrap().plan.is_ok());
    // The link turns to the same file under a name that is not in the repository.
    fs::remove_file(at(".now")).unwrap();
    symlink(outside.path(), at(".now")).unwrap();
    let after = repository.scan();
    assert!(after.model(&"c".parse().unwrap()).unwrap().plan.is_err());
    assert_eq!(text(&after.changes_since(&before)), ["c Changed"]);
}

#[test]
fn only_the_version_that_changed_has_another_fingerprint() {
    let (folder, repository) = models();
    put(&folder, "a/2/model.onnx", "two");
    put(&folder, "a/config.toml", "versions = \"all\"");
    let name = "a".parse().unwrap();
    let prints = || {
        let plan = repository.plan(&name).unwrap();
        plan.versions.into_iter().map(|version| version.fingerprint).collect::<Vec<_>>()
    };
    let before = prints();
    put(&folder, "a/2/model.onnx", "second");
    put(&folder, "a/config.toml", "versions = \"all\"\ninstances = 2");
    let after = prints();
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[1]);
}

#[test]
fn a_change_is_given_out_once_it_was_seen_twice() {
    let (folder, repository) = models();
    let mut watch = Watch::new(repository.scan());
    assert_eq!(text(&watch.settle(repository.scan())), [""; 0]);

    // A copy that grows from look to look.
    for length in 1..4 {
        put(&folder, "c/1/model.onnx", &"x".repeat(length));
        assert_eq!(text(&watch.settle(repository.scan())), [""; 0], "{length}");
    }
    // It is complete, and another one begins.
    put(&folder, "b.onnx", "longer");
    assert_eq!(text(&watch.settle(repository.scan())), ["c Added"]);
    assert_eq!(text(&watch.settle(repository.scan())), ["b Changed"]);
    assert_eq!(text(&watch.settle(repository.scan())), [""; 0]);

    fs::remove_dir_all(folder.path().join("c")).unwrap();
    assert_eq!(text(&watch.settle(repository.scan())), [""; 0]);
    assert_eq!(text(&watch.settle(repository.scan())), ["c Removed"]);
    assert_eq!(text(&watch.settle(repository.scan())), [""; 0]);
}

#[test]
fn a_change_that_is_undone_is_not_given_out() {
    let (folder, repository) = models();
    let mut watch = Watch::new(repository.scan());
    fs::rename(folder.path().join("a"), folder.path().join(".a")).unwrap();
    assert_eq!(text(&watch.settle(repository.scan())), [""; 0]);
    fs::rename(folder.path().join(".a"), folder.path().join("a")).unwrap();
    assert_eq!(text(&watch.settle(repository.scan())), [""; 0]);
    assert_eq!(text(&watch.settle(repository.scan())), [""; 0]);
}

#[test]
fn a_folder_that_cannot_be_read_does_not_take_its_models_away() {
    let (folder, repository) = models();
    let before = repository.scan();
    let mut watch = Watch::new(before.clone());
    let away = folder.path().with_extension("away");
    fs::rename(folder.path(), &away).unwrap();
    for _ in 0..3 {
        let scan = repository.scan();
        assert_eq!(scan.models().len(), 0);
        assert_eq!(text(&scan.changes_since(&before)), [""; 0]);
        assert!(scan.problems()[0].reason.starts_with("cannot be read"), "{:?}", scan.problems());
        assert_eq!(text(&watch.settle(scan)), [""; 0]);
    }
    fs::rename(&away, folder.path()).unwrap();
    for _ in 0..3 {
        assert_eq!(text(&watch.settle(repository.scan())), [""; 0]);
    }
}
