use super::*;

fn file(path: &str, content: &'static [u8]) -> RepositoryFile {
    RepositoryFile { path: path.to_owned(), content: content.into() }
}

fn iris() -> (tempfile::TempDir, Repository) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("iris/1")).unwrap();
    fs::write(folder.path().join("iris/1/model.onnx"), "stored").unwrap();
    fs::write(folder.path().join("iris/config.toml"), "instances = 2").unwrap();
    let repository = Repository::open([folder.path()]).unwrap();
    (folder, repository)
}

#[test]
fn a_brought_configuration_counts_instead_of_the_stored_one() {
    let (_folder, repository) = iris();
    let name = "iris".parse().unwrap();
    let plan = |config| repository.plan_with(&name, Replacement { config, files: &[] }).unwrap();
    assert_eq!(plan(None).settings.instances.unwrap().get(), 2);
    let brought = plan(Some(r#"{"max_batch_size": 4, "no_such_key": 1}"#));
    assert_eq!(brought.settings.instances, None);
    assert_eq!(brought.settings.batching.size_max.unwrap().get(), 4);
    assert_eq!(brought.notes.len(), 1);
    assert!(!brought.is_from_request());
    assert_eq!(repository.plan(&name).unwrap().settings.instances.unwrap().get(), 2);
}

#[test]
fn brought_files_count_instead_of_the_folder_and_go_with_the_plan() {
    let (_folder, repository) = iris();
    for name in ["iris", "new"] {
        let files = [
            file("2/model.onnx", b"two"),
            file("3/model.onnx", b"three"),
            file("3/model.onnx.data", b"weights"),
        ];
        let config = r#"{"version_policy": {"specific": {"versions": ["3"]}}}"#;
        let replacement = Replacement { config: Some(config), files: &files };
        let plan = repository.plan_with(&name.parse().unwrap(), replacement).unwrap();
        assert!(plan.is_from_request());
        let [version] = &plan.versions[..] else { panic!("{plan:?}") };
        assert_eq!(version.version.as_str(), "3");
        assert_eq!(fs::read(&version.path).unwrap(), b"three");
        let beside = version.path.with_extension("onnx.data");
        assert_eq!(fs::read(&beside).unwrap(), b"weights");
        let clone = plan.clone();
        drop(plan);
        assert!(beside.exists(), "the clone still needs it");
        drop(clone);
        assert!(!beside.exists());
    }
}

#[test]
fn what_is_brought_is_checked() {
    let (folder, repository) = iris();
    let error = |config: Option<&str>, files: &[RepositoryFile]| {
        let name = "iris".parse().unwrap();
        let error = repository.plan_with(&name, Replacement { config, files }).unwrap_err();
        match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        }
    };
    assert!(error(Some("[1]"), &[]).contains("not a JSON object: it is a list"));
    assert!(error(Some("{"), &[]).contains("not a JSON object: EOF"));
    assert!(
        error(Some(r#"{"name": "other"}"#), &[]).contains("the configuration is that of `other`")
    );
    assert!(error(Some(&("[".repeat(1000))), &[]).contains("recursion limit"));
    let model = || file("1/model.onnx", b"x");
    assert!(error(None, &[model()]).contains("must bring `config` as well"));
    let config = Some("{}");
    for path in ["../1/model.onnx", "/tmp/x", "1/../../x", "", "1/.x"] {
        let error = error(config, &[file(path, b"x")]);
        assert!(error.contains("is no path below"), "{path}: {error}");
    }
    for path in ["model.onnx", "one/model.onnx", "0/model.onnx", "01/model.onnx", "1"] {
        let error = error(config, &[file(path, b"x")]);
        assert!(error.contains("expected a version before the name"), "{path}: {error}");
    }
    for path in ["1/model.onnx", "1/./model.onnx", "1/model.onnx/model.onnx"] {
        let error = error(config, &[model(), file(path, b"y")]);
        assert!(error.contains("there is another file of that name"), "{path}: {error}");
    }
    assert!(error(config, &[file("1/weights.data", b"x")]).contains("there is no `"));
    let unknown = Replacement { config, files: &[] };
    assert!(repository.plan_with(&"new".parse().unwrap(), unknown).unwrap_err().is_not_found());
    // Nothing of all this has touched the repository.
    assert_eq!(fs::read(folder.path().join("iris/1/model.onnx")).unwrap(), b"stored");
}

#[test]
fn a_single_file_has_one_version_whatever_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("m.onnx"), "x").unwrap();
    let repository = Repository::open([folder.path().join("m.onnx")]).unwrap();
    let name = "m".parse().unwrap();
    let plan =
        |config| repository.plan_with(&name, Replacement { config: Some(config), files: &[] });
    let ok = plan(
        r#"{"default_model_filename": "other.onnx", "version_policy": {"specific": {"versions": [1, 2]}}}"#,
    );
    let ok = ok.unwrap();
    assert_eq!(ok.notes[0].to_string(), "`file_name` has no effect: the model is a single file");
    assert_eq!(ok.versions.len(), 1);
    let error = plan(r#"{"version_policy": {"specific": {"versions": [2]}}}"#).unwrap_err();
    assert_eq!(error.to_string(), "none of the versions asked for is there: there is 1");
}
