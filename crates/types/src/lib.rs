//! The vocabulary that every other crate speaks: models, tensors, requests, deadlines, errors
//! and the traits of a service.
//!
//! Nothing here does I/O or knows a wire format. A tensor is typed bytes from the edge to the
//! execution engine; a gateway, a worker and a remote client are one trait,
//! [`InferenceService`].

mod datatype;
mod deadline;
mod digest;
mod error;
mod gauge;
mod model;
mod request;
mod service;
mod shape;
mod status;
mod tensor;

pub use datatype::{DataType, UnknownDataType};
pub use deadline::Deadline;
pub use digest::{ContentDigest, ContentHasher, RoutingKey};
pub use error::{Blame, ErrorKind, ServiceError};
pub use gauge::{Gauge, GaugeGuard};
pub use model::{Batching, InvalidName, ModelMetadata, ModelName, TensorName, TensorSpec};
pub use request::{
    CacheOutcome, InferRequest, InferResponse, InvalidRequestId, RequestId, Served, WorkerId,
};
pub use service::{BoxFuture, InferenceService, StatusSource};
pub use shape::{Dimension, Shape, ShapeSpec};
pub use status::{
    BackendStatus, BatchStatus, BreakerState, BreakerStatus, CacheStatus, DeviceStatus,
    EndpointStatus, GatewayStatus, ModelStatus, NodeStatus, WorkerStatus,
};
pub use tensor::{NamedTensor, Tensor, TensorError};
