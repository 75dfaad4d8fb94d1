//! REST: the plain `/infer` form, Open Inference Protocol v2, and the documents that tell a
//! node's state.

pub mod admin;
mod body;
mod coding;
mod config;
pub mod documents;
pub mod headers;
mod metadata;
pub mod plain;
pub mod repository;
mod standing;
mod statistics;
pub mod v2;

pub use body::{BodyError, Chunks, READ_MAX, collect, collect_segments};
pub use coding::{Coding, CodingError, UnknownCoding};
pub use config::ConfigDocument;
pub use metadata::ModelDocument;
pub use statistics::StatisticsDocument;

use crate::json::reader::JsonError;
use inferring_types::ServiceError;

impl From<JsonError> for ServiceError {
    fn from(error: JsonError) -> Self {
        Self::invalid(error.to_string())
    }
}
