//! REST: the plain `/infer` form, Open Inference Protocol v2, and the documents that tell a
//! node's state.

mod body;
pub mod documents;
pub mod headers;
mod metadata;
pub mod plain;
pub mod v2;

pub use body::{BodyError, Chunks, collect};
pub use metadata::ModelDocument;

use crate::json::reader::JsonError;
use inferring_types::ServiceError;

impl From<JsonError> for ServiceError {
    fn from(error: JsonError) -> Self {
        Self::invalid(error.to_string())
    }
}
