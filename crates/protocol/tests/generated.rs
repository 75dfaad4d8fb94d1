//! Keeps the code under `src/grpc/gen` what `proto` says it is.
//!
//! It is committed, so that a build needs no compiler of protobuf files; this test has one in
//! Rust. After a change to `proto`, run it with `INFERRING_GENERATE=1` to write the code anew.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protox::Compiler;

/// The files in the order in which they are compiled; what they import comes along.
const FILES: [&str; 2] = ["inference.proto", "health.proto"];

/// The file with the descriptors, which reflection answers with.
const DESCRIPTORS: &str = "descriptors.bin";

#[test]
fn the_generated_code_is_that_of_the_proto_files() {
    let committed = package_folder().join("src/grpc/gen");
    let fresh = generate();
    if std::env::var_os("INFERRING_GENERATE").is_some() {
        for (name, content) in &fresh {
            std::fs::write(committed.join(name), content).unwrap();
        }
    }
    let found = read_folder(&committed);
    assert_eq!(found.keys().collect::<Vec<_>>(), fresh.keys().collect::<Vec<_>>());
    for (name, content) in fresh {
        assert!(
            found[&name] == content,
            "src/grpc/gen/{name} is not what proto says: run this test with INFERRING_GENERATE=1"
        );
    }
}

fn generate() -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    let mut compiler = Compiler::new([package_folder().join("proto")]).unwrap();
    compiler.include_imports(true).open_files(FILES).unwrap();
    // Without comments: reflection is for programs.
    std::fs::write(folder.path().join(DESCRIPTORS), compiler.encode_file_descriptor_set()).unwrap();
    let mut compiler = Compiler::new([package_folder().join("proto")]).unwrap();
    compiler.include_imports(true).include_source_info(true).open_files(FILES).unwrap();
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .codec_path("crate::grpc::ProtobufCodec")
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .out_dir(folder.path())
        .compile_fds(compiler.file_descriptor_set())
        .unwrap();
    read_folder(folder.path())
}

fn read_folder(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())
    });
    files.collect()
}

fn package_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
