//! What can be wrong with a repository, a model in it, or a model's settings.

use std::io;
use std::path::PathBuf;

use inferring_types::{InvalidName, ModelName, ModelVersion};

use crate::relative_path::InvalidPath;
use crate::text_format::SyntaxError;
use crate::tree::Position;

/// Why a path that was named cannot be a source of models.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing is there, or it may not be read.
    #[error("cannot read `{path}`", path = path.display())]
    Read {
        /// As it was named.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or a model's folder has a name under which no model can be served.
    #[error("cannot serve `{path}`", path = path.display())]
    Name {
        /// As it was named.
        path: PathBuf,
        /// Why.
        #[source]
        source: InvalidName,
    },
    /// Two of the paths are models of one name.
    #[error("`{first}` and `{second}` are both named `{name}`: rename one of them",
        first = first.display(), second = second.display())]
    SameName {
        /// The name.
        name: ModelName,
        /// The path that came first.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
}

/// Why it cannot be said how a model is to be served.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The repository has no model of that name.
    #[error("there is no model `{0}` in the repository")]
    UnknownModel(ModelName),
    /// Two models have one name.
    #[error("`{first}` and `{second}` are both named `{name}`: rename one of them",
        first = first.display(), second = second.display())]
    SameName {
        /// The name.
        name: ModelName,
        /// The model that comes first.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// A file or folder cannot be read.
    #[error("cannot read `{path}`", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The settings are wrong.
    #[error("the settings in {origin} are wrong")]
    Config {
        /// The file, or the request that brought them.
        origin: String,
        /// What is wrong.
        #[source]
        source: ConfigError,
    },
    /// The model's folder has no version.
    #[error("`{path}` has no version: expected a folder named by a whole number, such as \
        `{path}/1`", path = path.display())]
    NoVersion {
        /// The model's folder.
        path: PathBuf,
    },
    /// None of the versions that the policy asks for is there.
    #[error("none of the versions asked for is there: there is {there}")]
    NoneOfVersions {
        /// The versions that are there.
        there: String,
    },
    /// An alias names a version that is not there.
    #[error("the alias `{alias}` stands for version {version}, which is not there")]
    AliasWithoutVersion {
        /// The alias.
        alias: ModelVersion,
        /// The version.
        version: ModelVersion,
    },
    /// A version's folder does not have the model's file.
    #[error("there is no `{path}`", path = path.display())]
    NoModelFile {
        /// The file that was expected.
        path: PathBuf,
    },
    /// A link leads out of the repository.
    #[error("`{path}` leads out of the repository, to `{target}`: name it as a model file of \
        its own, or copy it", path = path.display(), target = target.display())]
    LeadsOut {
        /// The path in the repository.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// A request brings files without the settings that belong to them.
    #[error("a load request with files must bring `config` as well")]
    FilesWithoutConfig,
    /// A file of a request has a name that leads elsewhere.
    #[error("a file of the load request has a bad name")]
    BroughtPath(#[source] InvalidPath),
    /// A file of a request is in no version's folder, or comes twice.
    #[error("a file of the load request is named `{path}`: {problem}")]
    BroughtFile {
        /// Its name.
        path: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A request's files cannot be kept.
    #[error("cannot write the files of the load request into a temporary folder")]
    Keep(#[source] io::Error),
}

impl PlanError {
    /// Whether there is no such model, as opposed to one that is wrong.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::UnknownModel(_))
    }

    /// Whether the fault is this machine's: its disk, or the rights of this process on it.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::Keep(_))
    }
}

/// What is wrong with a model's settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The text is longer than any configuration.
    #[error("{length} bytes long, at most {max} are read", max = crate::text_format::LENGTH_MAX)]
    TooLong {
        /// Its length in bytes.
        length: u64,
    },
    /// The text is not in protobuf's text format.
    #[error("not in protobuf's text format: {0}")]
    Text(#[from] SyntaxError),
    /// The text is not JSON, or no object.
    #[error("not a JSON object: {0}")]
    Json(String),
    /// The text is not TOML.
    #[error("not TOML: {0}")]
    Toml(String),
    /// A key of `config.toml` that does not exist.
    #[error("there is no key `{}`{}; known here: {}", .0.key, .0.nearest, .0.known)]
    UnknownKey(UnknownKey),
    /// A value that its key does not take.
    #[error("{}`{key}`: {problem}", place(*.at))]
    Value {
        /// The key, with those around it.
        key: String,
        /// Where it stands, where that is known.
        at: Option<Position>,
        /// What is wrong.
        problem: String,
    },
}

/// A key that does not exist in a configuration in TOML, and what could have been meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKey {
    /// The key, with those around it.
    pub key: String,
    /// `: did you mean …?`, or nothing.
    pub nearest: String,
    /// All keys in its place.
    pub known: String,
}

impl UnknownKey {
    /// The key `unknown`, at the dotted `path`, where only the keys `known` may stand.
    pub fn new(path: &str, unknown: &str, known: &[&str]) -> Self {
        let parent = path.strip_suffix(unknown).unwrap_or(path).trim_end_matches('.');
        let full = |name: &str| match parent {
            "" => name.to_owned(),
            parent => format!("{parent}.{name}"),
        };
        let likeness = |name: &str| strsim::jaro_winkler(name, unknown);
        let nearest = known
            .iter()
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
            .map(|name| format!(": did you mean `{}`?", full(name)));
        let known: Vec<_> = known.iter().map(|name| format!("`{}`", full(name))).collect();
        Self { key: full(unknown), nearest: nearest.unwrap_or_default(), known: known.join(", ") }
    }
}

fn place(at: Option<Position>) -> String {
    at.map(|at| format!("{at}: ")).unwrap_or_default()
}
