//! Open Inference Protocol v2 over gRPC: between generated messages and `inferring-types`.
//!
//! Raw tensors stay slices of the message that brought them, and go out as they are; only
//! elements given one by one are converted.

mod codec;
mod config;
mod contents;
mod metadata;
mod parameters;
mod repository;
mod request;
mod response;
mod statistics;
mod timeout;

pub use codec::ProtobufCodec;
pub use config::encode_config;
pub use metadata::encode_metadata;
pub use repository::{decode_load, encode_index, parse_name};
pub use request::{DecodedRequest, TensorForm, decode_request, sequence_of};
pub use response::{FINAL_RESPONSE, encode_response};
pub use statistics::encode_statistics;
pub use timeout::parse_timeout;

/// The messages and the service of package `inference`.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/"
)]
pub mod inference {
    include!("gen/inference.rs");
}

/// The messages and the service of package `grpc.health.v1`.
#[allow(
    missing_docs,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from proto/"
)]
pub mod health {
    include!("gen/grpc.health.v1.rs");
}

/// All of it as a serialized `FileDescriptorSet`, for the reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!("gen/descriptors.bin");
