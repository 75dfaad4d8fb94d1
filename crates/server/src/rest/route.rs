//! Which path asks for what.

use http::Method;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// An inference in the plain form; of the default model where none is named.
    PlainInfer { model: Option<&'a str> },
    /// An inference by Open Inference Protocol v2.
    Infer { model: &'a str },
    /// The node's health, in full.
    Health,
    /// The node's statistics.
    Stats,
    /// Whether the process answers.
    Live,
    /// Whether the node takes requests.
    Ready,
    /// The server's name and version.
    Server,
    /// All models.
    Models,
    /// A model's metadata.
    Model { name: &'a str },
    /// Whether a model takes requests.
    ModelReady { name: &'a str },
}

/// Why a request asks for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RouteError {
    UnknownPath,
    WrongMethod { allowed: &'static str },
}

/// What a request of this method for this path asks for.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, RouteError> {
    let route = find_path(path).ok_or(RouteError::UnknownPath)?;
    let allowed = match route {
        Route::PlainInfer { .. } | Route::Infer { .. } => "POST",
        _ => "GET",
    };
    let fits = method.as_str() == allowed || (allowed == "GET" && method == Method::HEAD);
    if fits { Ok(route) } else { Err(RouteError::WrongMethod { allowed }) }
}

/// The paths there are, for people to read.
pub(super) fn known_paths() -> &'static str {
    "/infer, /models/{model}/infer, /health, /stats, /v2, /v2/health/live, /v2/health/ready, \
     /v2/models, /v2/models/{model}, /v2/models/{model}/ready, /v2/models/{model}/infer"
}

fn find_path(path: &str) -> Option<Route<'_>> {
    match path {
        "/infer" => return Some(Route::PlainInfer { model: None }),
        "/health" => return Some(Route::Health),
        "/stats" => return Some(Route::Stats),
        _ => {}
    }
    let mut segments = [""; 6];
    let mut count = 0;
    for segment in path.strip_prefix('/')?.split('/') {
        *segments.get_mut(count)? = segment;
        count += 1;
    }
    match segments[..count] {
        ["models", model, "infer"] => Some(Route::PlainInfer { model: Some(model) }),
        ["v2"] => Some(Route::Server),
        ["v2", "health", "live"] => Some(Route::Live),
        ["v2", "health", "ready"] => Some(Route::Ready),
        ["v2", "models"] => Some(Route::Models),
        ["v2", "models", name] => Some(Route::Model { name }),
        ["v2", "models", name, "ready"] => Some(Route::ModelReady { name }),
        ["v2", "models", model, "infer"] => Some(Route::Infer { model }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_leads_to_its_route() {
        for (method, path, expected) in [
            (Method::POST, "/infer", Ok(Route::PlainInfer { model: None })),
            (Method::POST, "/models/iris/infer", Ok(Route::PlainInfer { model: Some("iris") })),
            (Method::POST, "/v2/models/iris/infer", Ok(Route::Infer { model: "iris" })),
            (Method::GET, "/v2/models/iris", Ok(Route::Model { name: "iris" })),
            (Method::HEAD, "/health", Ok(Route::Health)),
            (Method::GET, "/infer", Err(RouteError::WrongMethod { allowed: "POST" })),
            (Method::DELETE, "/stats", Err(RouteError::WrongMethod { allowed: "GET" })),
            (Method::GET, "/", Err(RouteError::UnknownPath)),
            (Method::GET, "/infer/", Err(RouteError::UnknownPath)),
            (Method::GET, "/v2/models/a/b/c/d/e/f/g", Err(RouteError::UnknownPath)),
            (Method::OPTIONS, "*", Err(RouteError::UnknownPath)),
        ] {
            assert_eq!(find(&method, path), expected, "{method} {path}");
        }
    }
}
