//! Which path asks for what.

use std::borrow::Cow;

use http::Method;
use inferring_types::ModelSelector;

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// An inference in the plain form; of the default model where none is named.
    PlainInfer(Asked<'a>),
    /// An inference by Open Inference Protocol v2.
    Infer(Asked<'a>),
    /// The node's health, in full.
    Health,
    /// The node's statistics.
    Stats,
    /// The node's metrics, for Prometheus.
    Metrics,
    /// Whether the process answers.
    Live,
    /// Whether the node takes requests.
    Ready,
    /// The server's name and version.
    Server,
    /// All models.
    Models,
    /// A model's metadata.
    Model(Asked<'a>),
    /// Whether a model takes requests.
    ModelReady(Asked<'a>),
    /// A model's settings.
    ModelConfig(Asked<'a>),
    /// What a model has done, or all models.
    ModelStatistics(Option<Asked<'a>>),
    /// Which models there are, served or not.
    Index,
    /// To load a model.
    Load { name: Cow<'a, str> },
    /// To unload a model.
    Unload { name: Cow<'a, str> },
    /// The description of this interface.
    OpenApi,
    /// Something that other servers offer and this one does not: what, and what there is instead.
    Unsupported(&'static str),
}

/// The model that a path names, and the version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Asked<'a> {
    name: Option<Cow<'a, str>>,
    version: Option<Cow<'a, str>>,
}

impl Asked<'_> {
    /// The same as the service takes it.
    pub(super) fn selector(&self) -> ModelSelector<'_> {
        ModelSelector { name: self.name.as_deref(), version: self.version.as_deref() }
    }
}

/// Why a request asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteError {
    UnknownPath,
    WrongMethod {
        /// The methods there are, as `Allow` lists them.
        allowed: &'static str,
    },
    /// It only asked which methods there are.
    AskedMethods {
        allowed: &'static str,
    },
}

/// What a request of this method for this path asks for.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, RouteError> {
    const GET: &str = "GET, HEAD, OPTIONS";
    const POST: &str = "POST, OPTIONS";
    const ANY: &str = "GET, HEAD, POST, OPTIONS";
    if path == "*" && method == Method::OPTIONS {
        return Err(RouteError::AskedMethods { allowed: ANY });
    }
    let route = find_path(path).ok_or(RouteError::UnknownPath)?;
    let allowed = match route {
        Route::PlainInfer(_)
        | Route::Infer(_)
        | Route::Index
        | Route::Load { .. }
        | Route::Unload { .. } => POST,
        Route::Unsupported(_) => ANY,
        _ => GET,
    };
    check_method(method, allowed).map(|()| route)
}

/// Whether a method is one of those that are allowed; where it only asks for them, it is not.
pub(super) fn check_method(method: &Method, allowed: &'static str) -> Result<(), RouteError> {
    if method == Method::OPTIONS {
        Err(RouteError::AskedMethods { allowed })
    } else if allowed.split(", ").any(|name| name == method.as_str()) {
        Ok(())
    } else {
        Err(RouteError::WrongMethod { allowed })
    }
}

/// The paths there are. `[..]` is a part that may be left out.
pub(super) const PATHS: [&str; 20] = [
    "/infer",
    "/models/{model}/infer",
    "/models/{model}/versions/{version}/infer",
    "/health",
    "/stats",
    "/metrics",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models",
    "/v2/models/{model}[/versions/{version}]",
    "/v2/models/{model}[/versions/{version}]/ready",
    "/v2/models/{model}[/versions/{version}]/config",
    "/v2/models/{model}[/versions/{version}]/stats",
    "/v2/models/{model}[/versions/{version}]/infer",
    "/v2/models/stats",
    "/v2/repository/index",
    "/v2/repository/models/{model}/load",
    "/v2/repository/models/{model}/unload",
    "/openapi.json",
];

fn find_path(path: &str) -> Option<Route<'_>> {
    match path {
        "/infer" => return Some(Route::PlainInfer(Asked::default())),
        "/health" => return Some(Route::Health),
        "/stats" => return Some(Route::Stats),
        "/metrics" => return Some(Route::Metrics),
        "/openapi.json" => return Some(Route::OpenApi),
        _ => {}
    }
    let mut segments = [""; 8];
    let mut count = 0;
    for segment in path.strip_prefix('/')?.split('/') {
        *segments.get_mut(count)? = segment;
        count += 1;
    }
    match segments[..count] {
        ["models", model, "infer"] => asked(model, None).map(Route::PlainInfer),
        ["models", model, "versions", version, "infer"] => {
            asked(model, Some(version)).map(Route::PlainInfer)
        }
        ["v2", ref rest @ ..] => find_v2(rest),
        _ => None,
    }
}

fn find_v2<'a>(segments: &[&'a str]) -> Option<Route<'a>> {
    match *segments {
        [] => Some(Route::Server),
        ["health", "live"] => Some(Route::Live),
        ["health", "ready"] => Some(Route::Ready),
        ["models"] => Some(Route::Models),
        ["models", "stats"] => Some(Route::ModelStatistics(None)),
        ["models", model, "versions", version, ref action @ ..] => {
            of_model(asked(model, Some(version))?, action)
        }
        ["models", model, ref action @ ..] => of_model(asked(model, None)?, action),
        ["repository", "index"] => Some(Route::Index),
        ["repository", "models", model, "load"] => Some(Route::Load { name: decoded(model)? }),
        ["repository", "models", model, "unload"] => Some(Route::Unload { name: decoded(model)? }),
        ["systemsharedmemory" | "cudasharedmemory", ..] => Some(Route::Unsupported(
            "shared memory is not supported: send tensors in the message, as JSON or raw",
        )),
        ["trace", "setting"] => Some(Route::Unsupported(TRACING)),
        ["logging"] => Some(Route::Unsupported(
            "what is logged is not set over the network, but when the program starts",
        )),
        _ => None,
    }
}

fn of_model<'a>(asked: Asked<'a>, action: &[&str]) -> Option<Route<'a>> {
    match *action {
        [] => Some(Route::Model(asked)),
        ["ready"] => Some(Route::ModelReady(asked)),
        ["config"] => Some(Route::ModelConfig(asked)),
        ["stats"] => Some(Route::ModelStatistics(Some(asked))),
        ["infer"] => Some(Route::Infer(asked)),
        ["trace", "setting"] => Some(Route::Unsupported(TRACING)),
        ["generate" | "generate_stream"] => Some(Route::Unsupported(
            "generating text is not supported: ask the model by its infer path",
        )),
        _ => None,
    }
}

const TRACING: &str = "traces are not set over the network";

fn asked<'a>(model: &'a str, version: Option<&'a str>) -> Option<Asked<'a>> {
    let version = version.map(decoded).map_or(Some(None), |version| version.map(Some))?;
    Some(Asked { name: Some(decoded(model)?), version })
}

/// A segment with its percent-encoded bytes decoded; `None` where that makes no text.
pub(super) fn decoded(segment: &str) -> Option<Cow<'_, str>> {
    if !segment.contains('%') {
        return Some(Cow::Borrowed(segment));
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let (digits, behind) = tail.split_first_chunk::<2>()?;
            let digits = str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = behind;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(name: &'a str, version: Option<&'a str>) -> Asked<'a> {
        Asked { name: Some(name.into()), version: version.map(Cow::from) }
    }

    #[test]
    fn each_path_leads_to_its_route() {
        const GET: &str = "GET, HEAD, OPTIONS";
        const POST: &str = "POST, OPTIONS";
        for (method, path, expected) in [
            (Method::POST, "/infer", Ok(Route::PlainInfer(Asked::default()))),
            (Method::POST, "/models/iris/infer", Ok(Route::PlainInfer(of("iris", None)))),
            (
                Method::POST,
                "/models/iris/versions/2/infer",
                Ok(Route::PlainInfer(of("iris", Some("2")))),
            ),
            (Method::POST, "/v2/models/iris/infer", Ok(Route::Infer(of("iris", None)))),
            (
                Method::POST,
                "/v2/models/iris/versions/stable/infer",
                Ok(Route::Infer(of("iris", Some("stable")))),
            ),
            (Method::GET, "/v2/models/iris", Ok(Route::Model(of("iris", None)))),
            (Method::GET, "/v2/models/iris/versions/1", Ok(Route::Model(of("iris", Some("1"))))),
            (
                Method::GET,
                "/v2/models/iris/versions/1/ready",
                Ok(Route::ModelReady(of("iris", Some("1")))),
            ),
            (Method::GET, "/v2/models/iris/config", Ok(Route::ModelConfig(of("iris", None)))),
            (Method::GET, "/v2/models/stats", Ok(Route::ModelStatistics(None))),
            (
                Method::GET,
                "/v2/models/iris/stats",
                Ok(Route::ModelStatistics(Some(of("iris", None)))),
            ),
            (Method::POST, "/v2/repository/index", Ok(Route::Index)),
            (
                Method::POST,
                "/v2/repository/models/iris/load",
                Ok(Route::Load { name: "iris".into() }),
            ),
            (Method::GET, "/v2/models/a%2Eb%c3%a9", Ok(Route::Model(of("a.bé", None)))),
            (Method::GET, "/v2/models/a%2", Err(RouteError::UnknownPath)),
            (Method::GET, "/v2/models/%+1", Err(RouteError::UnknownPath)),
            (Method::GET, "/v2/models/%ff", Err(RouteError::UnknownPath)),
            (Method::HEAD, "/health", Ok(Route::Health)),
            (Method::GET, "/infer", Err(RouteError::WrongMethod { allowed: POST })),
            (Method::HEAD, "/infer", Err(RouteError::WrongMethod { allowed: POST })),
            (Method::DELETE, "/stats", Err(RouteError::WrongMethod { allowed: GET })),
            (Method::OPTIONS, "/stats", Err(RouteError::AskedMethods { allowed: GET })),
            (Method::OPTIONS, "/none", Err(RouteError::UnknownPath)),
            (Method::GET, "/", Err(RouteError::UnknownPath)),
            (Method::GET, "/infer/", Err(RouteError::UnknownPath)),
            (Method::GET, "/v2/models/a/b/c/d/e/f/g", Err(RouteError::UnknownPath)),
            (Method::GET, "/v2/models/a/versions/1/infer/more", Err(RouteError::UnknownPath)),
            (
                Method::OPTIONS,
                "*",
                Err(RouteError::AskedMethods { allowed: "GET, HEAD, POST, OPTIONS" }),
            ),
        ] {
            assert_eq!(find(&method, path), expected, "{method} {path}");
        }
    }

    #[test]
    fn what_other_servers_offer_is_told_apart_from_what_nobody_offers() {
        for (method, path) in [
            (Method::GET, "/v2/systemsharedmemory/status"),
            (Method::POST, "/v2/cudasharedmemory/region/r/register"),
            (Method::POST, "/v2/trace/setting"),
            (Method::GET, "/v2/models/iris/trace/setting"),
            (Method::POST, "/v2/logging"),
            (Method::POST, "/v2/models/iris/versions/1/generate"),
        ] {
            let route = find(&method, path);
            assert!(matches!(route, Ok(Route::Unsupported(_))), "{method} {path}: {route:?}");
        }
    }
}
