use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;
use crate::plan::Note;

/// A folder with these files, each with its own path as its content.
fn folder(files: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        put(folder.path(), file, file);
    }
    folder
}

fn put(folder: &Path, file: &str, content: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn open(path: &Path) -> Repository {
    Repository::open([path]).unwrap()
}

/// Every model as `name:version=file`, the paths below `folder`.
fn served(snapshot: &RepositorySnapshot, folder: &Path) -> Vec<String> {
    let folder = fs::canonicalize(folder).unwrap();
    let mut lines = Vec::new();
    for entry in snapshot.models() {
        match &entry.plan {
            Err(error) => lines.push(format!("{}: {error}", entry.name)),
            Ok(plan) => lines.extend(plan.versions.iter().map(|version| {
                let path = version.path.strip_prefix(&folder).unwrap();
                format!("{}:{}={}", plan.name, version.version, path.display())
            })),
        }
    }
    lines
}

fn plan_error(repository: &Repository, name: &str) -> String {
    repository.plan(&name.parse().unwrap()).unwrap_err().to_string()
}

#[test]
fn a_folder_of_models_holds_folders_and_single_files() {
    let folder = folder(&[
        "resnet/1/model.onnx",
        "resnet/2/model.onnx",
        "resnet/10/model.onnx",
        "resnet/labels.txt",
        "iris.onnx",
        "README.md",
        ".hidden/1/model.onnx",
        ".hidden.onnx",
        "silero/3/model.onnx/model.onnx",
        "silero/config.toml",
        "magika/1/standard.onnx",
    ]);
    put(folder.path(), "silero/config.toml", "instances = 2");
    let snapshot = open(folder.path()).scan();
    assert_eq!(
        served(&snapshot, folder.path()),
        [
            "iris:1=iris.onnx",
            "magika:1=magika/1/standard.onnx",
            "resnet:10=resnet/10/model.onnx",
            "silero:3=silero/3/model.onnx/model.onnx",
        ],
    );
    assert_eq!(snapshot.problems(), []);
    let resnet = snapshot.model(&"resnet".parse().unwrap()).unwrap();
    let versions = resnet.versions.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(versions, ["1", "2", "10"]);
    let silero = snapshot.model(&"silero".parse().unwrap()).unwrap().plan.as_ref().unwrap();
    assert_eq!(silero.settings.instances.unwrap().get(), 2);
}

#[test]
fn a_path_is_what_it_looks_like() {
    let folder = folder(&["iris/1/model.onnx", "lone.onnx", "bare/config.toml", "empty/notes.txt"]);
    put(folder.path(), "bare/config.toml", "");
    let at = |path: &str| folder.path().join(path);
    let names = |paths: &[&str]| {
        let repository = Repository::open(paths.iter().map(|path| at(path))).unwrap();
        let snapshot = repository.scan();
        snapshot.models().iter().map(|entry| entry.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&["lone.onnx", "iris"]), ["lone", "iris"]);
    assert_eq!(names(&["iris/"]), ["iris"]);
    assert_eq!(names(&["iris/../iris/."]), ["iris"]);
    assert_eq!(names(&["bare"]), ["bare"]);
    assert_eq!(names(&["empty"]), [""; 0]);
    assert_eq!(names(&["."]), ["bare", "iris", "lone"]);
    // A folder is what it was when it was named, whatever becomes of it.
    let repository = open(&at("iris"));
    fs::remove_dir_all(at("iris/1")).unwrap();
    let expected = format!("`{}` has no version", at("iris").display());
    assert!(plan_error(&repository, "iris").starts_with(&expected));
    fs::remove_dir_all(at("iris")).unwrap();
    assert!(plan_error(&repository, "iris").starts_with("cannot read"));
    assert_eq!(repository.scan().models().len(), 1);
}

#[test]
fn a_path_that_is_no_source_is_refused() {
    let folder = folder(&["a b.onnx", "iris.onnx", "iris/1/model.onnx"]);
    let at = |path: &str| folder.path().join(path);
    let error = |paths: &[&str]| {
        Repository::open(paths.iter().map(|path| at(path))).unwrap_err().to_string()
    };
    assert!(error(&["absent.onnx"]).starts_with("cannot read"));
    assert!(error(&["a b.onnx"]).starts_with("cannot serve"));
    let same = error(&["iris.onnx", "iris"]);
    assert!(same.contains("are both named `iris`: rename one of them"), "{same}");
    assert!(same.contains("iris.onnx") && same.contains("/iris`"), "{same}");
}

#[test]
fn two_models_of_one_name_are_served_neither_way() {
    let folder = folder(&["iris.onnx", "iris/1/model.onnx", "other.onnx"]);
    let repository = open(folder.path());
    let snapshot = repository.scan();
    assert_eq!(snapshot.models().len(), 2);
    assert!(served(&snapshot, folder.path())[0].contains("are both named `iris`"));
    assert_eq!(served(&snapshot, folder.path())[1], "other:1=other.onnx");
    assert!(plan_error(&repository, "iris").contains("are both named `iris`"));
}

#[test]
fn what_is_no_model_is_reported_and_stops_nothing() {
    let folder = folder(&[
        "good/1/model.onnx",
        "loose/one.onnx",
        "loose/two.onnx",
        "notes/todo.txt",
        "zero/01/model.onnx",
        "bad name/1/model.onnx",
        "broken/1/model.onnx",
    ]);
    put(folder.path(), "broken/config.toml", "instances = [");
    let snapshot = open(folder.path()).scan();
    let problem = |name: &str| {
        let problem = snapshot.problems().iter().find(|p| p.path.ends_with(name));
        problem.unwrap_or_else(|| panic!("{name}: {:?}", snapshot.problems())).reason.clone()
    };
    assert!(problem("loose").ends_with("in it, or name the files themselves"));
    assert!(problem("notes").ends_with("and no configuration"));
    assert!(problem("zero").starts_with("no model"));
    assert!(problem("bad name").contains("cannot name a model"));
    let lines = served(&snapshot, folder.path());
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with("broken: the settings in `") && lines[0].contains("config.toml"));
    assert_eq!(lines[1], "good:1=good/1/model.onnx");
}

#[test]
fn a_folder_with_the_models_file_itself_is_version_1() {
    let folder = folder(&["iris/iris.onnx", "iris/README.md", "net/model.onnx", "net/old.onnx"]);
    put(folder.path(), "net/config.toml", "instances = 2\naliases = { stable = 1 }");
    let snapshot = open(folder.path()).scan();
    assert_eq!(served(&snapshot, folder.path()), ["iris:1=iris/iris.onnx", "net:1=net/model.onnx"],);
    let by_itself = open(&folder.path().join("net"));
    assert_eq!(served(&by_itself.scan(), folder.path()), ["net:1=net/model.onnx"]);
}

#[test]
fn the_policy_and_the_aliases_choose_the_versions() {
    let files: Vec<String> = (1..=4).map(|v| format!("m/{v}/model.onnx")).collect();
    let folder = folder(&files.iter().map(String::as_str).collect::<Vec<_>>());
    let repository = open(folder.path());
    for (config, expected) in [
        ("", "4"),
        ("versions = { latest = 2 }", "3 4"),
        ("versions = { latest = 9 }", "1 2 3 4"),
        ("versions = \"all\"", "1 2 3 4"),
        ("versions = [3, 1, 7]", "1 3"),
        ("aliases = { stable = 2, canary = 4 }", "2(stable) 4(canary)"),
        ("versions = [1]\naliases = { a = 3, b = 3 }", "1 3(a,b)"),
    ] {
        put(folder.path(), "m/config.toml", config);
        let plan = repository.plan(&"m".parse().unwrap()).unwrap();
        let versions = plan.versions.iter().map(|version| {
            let aliases: Vec<_> = version.aliases.iter().map(ModelVersion::as_str).collect();
            let aliases = aliases.join(",");
            if aliases.is_empty() {
                version.version.to_string()
            } else {
                format!("{}({aliases})", version.version)
            }
        });
        assert_eq!(versions.collect::<Vec<_>>().join(" "), expected, "{config}");
        let missing = config.contains('7').then(|| Note::MissingVersion("7".parse().unwrap()));
        assert_eq!(plan.notes, Vec::from_iter(missing), "{config}");
    }
    for (config, expected) in [
        ("versions = [7]", "none of the versions asked for is there: there is 1, 2, 3, 4"),
        ("aliases = { stable = 7 }", "the alias `stable` stands for version 7, which is not there"),
    ] {
        put(folder.path(), "m/config.toml", config);
        assert_eq!(plan_error(&repository, "m"), expected);
    }
}

#[test]
fn a_configuration_of_tritons_is_read_with_its_notes() {
    let folder = folder(&["m/1/net.onnx", "m/1/other.onnx"]);
    let config = "name: \"m\" default_model_filename: \"net.onnx\" max_batch_size: 8 later_key: 1";
    put(folder.path(), "m/config.pbtxt", config);
    let repository = open(folder.path());
    let plan = repository.plan(&"m".parse().unwrap()).unwrap();
    assert!(plan.versions[0].path.ends_with("m/1/net.onnx"));
    assert_eq!(plan.settings.batching.size_max.unwrap().get(), 8);
    assert_eq!(plan.notes, [Note::UnknownKey { key: "later_key".to_owned() }]);

    put(folder.path(), "m/config.pbtxt", "name: \"other\"");
    let error = repository.plan(&"m".parse().unwrap()).unwrap_err();
    assert!(error.to_string().starts_with("the settings in `"), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("1:1: `name`: the configuration is that of `other`"), "{cause}");

    // Ours counts where both are there, and the other one is reported.
    put(folder.path(), "m/config.toml", "file_name = \"other.onnx\"");
    let plan = repository.plan(&"m".parse().unwrap()).unwrap();
    assert!(plan.versions[0].path.ends_with("m/1/other.onnx"));
    assert_eq!(
        plan.notes[0].to_string(),
        "`config.pbtxt` has no effect: there is a config.toml, and that counts",
    );
}

#[test]
fn a_missing_model_file_is_named() {
    let folder = folder(&["none/1/labels.txt", "two/1/a.onnx", "two/1/b.onnx", "named/1/a.onnx"]);
    put(folder.path(), "named/config.toml", "file_name = \"b.onnx\"");
    let repository = open(folder.path());
    for (name, file) in [("none", "model.onnx"), ("two", "model.onnx"), ("named", "b.onnx")] {
        let expected =
            format!("there is no `{}`", folder.path().join(name).join("1").join(file).display());
        assert_eq!(plan_error(&repository, name), expected);
    }
    let unknown = repository.plan(&"absent".parse().unwrap()).unwrap_err();
    assert!(unknown.is_not_found() && !unknown.is_local());
    assert_eq!(unknown.to_string(), "there is no model `absent` in the repository");
}

#[test]
fn links_may_turn_within_the_repository_but_not_leave_it() {
    let outside = folder(&["secret.onnx", "model/1/model.onnx", "config.toml"]);
    let folder =
        folder(&["shared/weights.onnx", "v/1/notes.txt", "inside/1/x.txt", "c/1/model.onnx"]);
    let link = |target: &Path, name: &str| symlink(target, folder.path().join(name)).unwrap();
    link(&outside.path().join("secret.onnx"), "v/1/model.onnx");
    link(&outside.path().join("secret.onnx"), "file.onnx");
    link(&outside.path().join("model"), "whole");
    link(&outside.path().join("config.toml"), "c/config.toml");
    link(Path::new("../../shared/weights.onnx"), "inside/1/model.onnx");
    link(Path::new("nowhere"), "dangling.onnx");
    link(Path::new("nowhere"), "shared/config.toml");
    link(Path::new("loop"), "loop");
    // Out and back in: what the model refers to would be looked for outside.
    let back = folder.path().join("shared/weights.onnx");
    fs::create_dir_all(outside.path().join("back/1")).unwrap();
    symlink(back, outside.path().join("back/1/model.onnx")).unwrap();
    link(&outside.path().join("back"), "back");
    let repository = open(folder.path());
    for name in ["v", "file", "whole", "c", "back"] {
        let error = repository.plan(&name.parse().unwrap()).unwrap_err();
        assert!(matches!(error, PlanError::LeadsOut { .. }), "{name}: {error}");
    }
    assert!(plan_error(&repository, "shared").contains("there is no `"));
    let lines = served(&repository.scan(), folder.path());
    assert!(lines.contains(&"inside:1=inside/1/model.onnx".to_owned()), "{lines:?}");
    // A person who names the file itself means it.
    assert!(open(&folder.path().join("file.onnx")).plan(&"file".parse().unwrap()).is_ok());
}

#[test]
fn a_file_name_that_leaves_the_folder_is_refused() {
    let folder = folder(&["secret.onnx", "m/1/model.onnx"]);
    let repository = open(folder.path());
    for name in ["../../secret.onnx", "/etc/passwd", "a/../../../secret.onnx", ".."] {
        put(folder.path(), "m/config.pbtxt", &format!("default_model_filename: \"{name}\""));
        let error = repository.plan(&"m".parse().unwrap()).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("is no path below the model's folder"), "{name}: {cause}");
    }
}

#[test]
fn only_regular_files_of_a_sane_length_are_read() {
    let folder = folder(&["pipe/1/x.txt", "long/1/model.onnx", "dir/1/model.onnx/sub/x"]);
    let status = std::process::Command::new("mkfifo")
        .arg(folder.path().join("pipe/1/model.onnx"))
        .status()
        .unwrap();
    assert!(status.success());
    put(folder.path(), "long/config.pbtxt", &" ".repeat(crate::text_format::LENGTH_MAX + 1));
    let repository = open(folder.path());
    // Were the pipe opened, this would wait without end.
    assert!(plan_error(&repository, "pipe").starts_with("there is no"));
    assert!(plan_error(&repository, "dir").starts_with("there is no"));
    let error = repository.plan(&"long".parse().unwrap()).unwrap_err();
    assert!(matches!(error, PlanError::Read { .. }), "{error}");
}
