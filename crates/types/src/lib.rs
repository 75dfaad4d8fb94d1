//! The vocabulary that every other crate speaks: models, tensors, requests, deadlines, errors
//! and the traits of a service and of a repository of models.
//!
//! Nothing here does I/O or knows a wire format. A tensor is typed bytes from the edge to the
//! execution engine; a gateway, a worker and a remote client are one trait,
//! [`InferenceService`].

mod admin;
mod catalog;
mod datatype;
mod deadline;
mod digest;
mod error;
mod gauge;
mod membership;
mod model;
mod repository;
mod request;
mod segments;
mod sequence;
mod service;
mod shape;
mod standing;
mod status;
mod tensor;
mod version;

pub use admin::{NodeAdmin, WorkerChange};
pub use catalog::{Described, ModelCatalog};
pub use datatype::{DataType, UnknownDataType};
pub use deadline::Deadline;
pub use digest::{ContentDigest, ContentHasher, RoutingKey};
pub use error::{Blame, ErrorKind, ServiceError};
pub use gauge::{Gauge, GaugeGuard};
pub use membership::{InvalidWorker, MembershipStatus, WorkerSpec};
pub use model::{Batching, InvalidName, ModelMetadata, ModelName, RowAxes, TensorName, TensorSpec};
pub use repository::{
    BatchSizeStatistics, CostCurve, CostPoint, IndexEntry, LoadRequest, ModelConfig,
    ModelRepository, ModelState, ModelStatistics, RepositoryFile, Spent, VersionPolicy,
};
pub use request::{
    CacheOutcome, InferRequest, InferResponse, InvalidRequestId, RequestId, RouteReason, Routed,
    Served, WorkerId, WorkerLoad,
};
pub use segments::SegmentedBytes;
pub use sequence::{InvalidSequenceId, SequenceId, SequenceSpec, SequenceStep, StateSpec};
pub use service::{
    Announced, BoxFuture, DrainListener, InferenceService, Reservation, StatusSource,
};
pub use shape::{Dimension, Shape, ShapeSpec};
pub use standing::{BreakerState, BreakerStatus, EjectedStatus, EjectionReason, OpenedBy};
pub use status::{
    AdmissionStatus, Allotment, BackendStatus, BatchStatus, CacheStatus, DeviceStatus,
    EndpointStatus, GatewayStatus, LoadStatus, ModelStatus, NodeStatus, TryStatus, WorkerStatus,
};
pub use tensor::{NamedTensor, Tensor, TensorError};
pub use version::{InvalidVersion, ModelSelector, ModelVersion};
