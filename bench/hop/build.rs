//! Generates the gRPC stubs. protox parses the proto itself, so no `protoc` has to be installed.

fn main() {
    println!("cargo::rerun-if-changed=proto/inference.proto");
    let descriptors = protox::compile(["proto/inference.proto"], ["proto"])
        .expect("proto/inference.proto is valid");
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)
        .expect("the generated stubs are written to OUT_DIR");
}
