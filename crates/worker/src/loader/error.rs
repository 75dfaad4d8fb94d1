//! Why models could not be loaded, and workers not be started.

use std::error::Error;
use std::sync::Arc;

use inferring_repository::PlanError;
use inferring_types::{Blame, ErrorKind, ModelName, ModelVersion, ServiceError};

use crate::executor::ModelError;
use crate::settings::Misfit;

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no model.
    #[error("there is no model to serve{0}")]
    NoModel(String),
    /// A model that must be served could not be loaded.
    #[error(transparent)]
    Load(#[from] LoadFailure),
    /// No model could be loaded: the first one's reason.
    #[error("none of the {models} models could be loaded; the first of them")]
    None {
        /// How many there are.
        models: usize,
        /// Why the first of them could not.
        #[source]
        first: LoadFailure,
    },
    /// It was closed while it loaded its models.
    #[error("the worker was closed before its models were loaded")]
    Closed,
    /// The system starts no thread.
    #[error("cannot start a thread to watch the models' folder")]
    Thread(#[source] std::io::Error),
}

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadFailure {
    /// It cannot be told what is to be loaded.
    #[error("cannot load model `{model}`")]
    Plan {
        /// The model.
        model: ModelName,
        /// Why.
        #[source]
        source: Arc<PlanError>,
    },
    /// Its settings ask for what cannot be.
    #[error("cannot load model `{model}`")]
    Settings {
        /// The model.
        model: ModelName,
        /// What.
        #[source]
        source: Misfit,
    },
    /// A version of it could not be loaded.
    #[error("cannot load version {version} of model `{model}`")]
    Version {
        /// The model.
        model: ModelName,
        /// The version.
        version: ModelVersion,
        /// Why.
        #[source]
        source: ModelError,
    },
    /// The worker shuts down.
    #[error("model `{model}` is not loaded any more: the worker is shutting down")]
    Closing {
        /// The model.
        model: ModelName,
    },
}

impl LoadFailure {
    /// The version that is at fault, where one is.
    pub(super) fn version(&self) -> Option<&ModelVersion> {
        match self {
            Self::Version { version, .. } => Some(version),
            _ => None,
        }
    }

    /// What went wrong, without the names that whoever reads it knows already.
    pub(super) fn reason(&self) -> String {
        match self.source() {
            Some(source) => chain(source),
            None => self.to_string(),
        }
    }
}

impl From<LoadFailure> for ServiceError {
    fn from(failure: LoadFailure) -> Self {
        // Who loads models operates the server: the whole chain is for them.
        let message = chain(&failure);
        match &failure {
            LoadFailure::Plan { source, .. } if source.is_not_found() => Self::not_found(message),
            LoadFailure::Plan { source, .. } if source.is_local() => {
                Self::new(ErrorKind::Internal, Blame::Server, message)
            }
            LoadFailure::Closing { .. } => Self::unavailable(message),
            _ => Self::invalid(message),
        }
    }
}

/// An error and all its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
