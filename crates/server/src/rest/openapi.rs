//! The description of the interface, for people and for programs that make clients of it.
//!
//! It is written by hand and held to the truth by tests: every route is in it, every path in it
//! leads to a route, and its examples are what decoders take and encoders give.

use bytes::Bytes;
use http::{Response, StatusCode};
use inferring_protocol::rest::Chunks;

use super::respond;

const DOCUMENT: &str = include_str!("../../../../docs/reference/openapi.json");

/// The document.
pub(super) fn document() -> Response<Chunks> {
    let text = Bytes::from_static(DOCUMENT.as_bytes());
    respond(StatusCode::OK, "application/json", Chunks::one(text))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use http::Method;
    use inferring_protocol::rest::admin::{
        AddWorkerRequest, DrainingDocument, WeightRequest, WorkerDocument, WorkersDocument,
    };
    use inferring_protocol::rest::documents::ErrorDocument;
    use inferring_protocol::rest::repository::{
        IndexDocument, IndexRequest, decode_load, decode_unload,
    };
    use inferring_protocol::rest::{ModelDocument, plain, v2};
    use serde_json::{Value, json};

    use super::*;
    use crate::rest::admin;
    use crate::rest::route::{self, PATHS, Route};

    fn openapi() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    /// Every path and method, and what it says of them.
    fn operations(openapi: &Value) -> Vec<(&str, Method, &Value)> {
        let paths = openapi["paths"].as_object().unwrap().iter();
        let operations = paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter().filter(|(key, _)| *key != "servers");
            methods.map(move |(method, operation)| {
                (path.as_str(), method.to_uppercase().parse().unwrap(), operation)
            })
        });
        operations.collect()
    }

    /// Whether it is answered where operators are listened to.
    fn is_admin(path: &str) -> bool {
        path.starts_with("/admin/")
    }

    fn filled_in(path: &str) -> String {
        path.replace("{model}", "iris").replace("{version}", "1")
    }

    /// What a route is of, and how many kinds there are. A new one does not compile without a
    /// place here.
    fn kind(route: &Route<'_>) -> usize {
        match route {
            Route::PlainInfer(_) => 0,
            Route::Infer(_) => 1,
            Route::Health => 2,
            Route::Stats => 3,
            Route::Live => 4,
            Route::Ready => 5,
            Route::Server => 6,
            Route::Models => 7,
            Route::Model(_) => 8,
            Route::ModelReady(_) => 9,
            Route::ModelConfig(_) => 10,
            Route::ModelStatistics(_) => 11,
            Route::Index => 12,
            Route::Load { .. } => 13,
            Route::Unload { .. } => 14,
            Route::OpenApi => 15,
            Route::Metrics => 16,
            Route::Unsupported(_) => KINDS,
        }
    }

    const KINDS: usize = 17;

    #[test]
    fn every_path_leads_to_a_route_and_every_route_has_a_path() {
        let openapi = openapi();
        let operations = operations(&openapi);
        let kinds: BTreeSet<_> = operations
            .iter()
            .filter(|(path, ..)| !is_admin(path))
            .map(|(path, method, _)| {
                let path = filled_in(path);
                let route = route::find(method, &path);
                kind(&route.unwrap_or_else(|error| panic!("{method} {path}: {error:?}")))
            })
            .collect();
        assert_eq!(kinds, (0..KINDS).collect());
    }

    #[test]
    fn every_method_of_an_operators_path_is_in_it_and_no_other() {
        let openapi = openapi();
        let mut described = BTreeMap::<_, BTreeSet<_>>::new();
        for (path, method, _) in operations(&openapi) {
            described.entry(path).or_default().insert(method.to_string());
        }
        described.retain(|path, _| is_admin(path));
        assert_eq!(described.len(), admin::PATHS.len());
        for (path, methods) in described {
            let allowed = admin::find(&path.replace("{id}", "w")).unwrap().allowed().split(", ");
            let implied = ["HEAD", "OPTIONS"];
            let allowed: BTreeSet<_> =
                allowed.filter(|method| !implied.contains(method)).map(str::to_owned).collect();
            assert_eq!(methods, allowed, "{path}");
            // It says where that is.
            let server = &openapi["paths"][path]["servers"][0]["description"];
            assert_eq!(server, "`listen.admin`.", "{path}");
        }
    }

    #[test]
    fn it_has_the_paths_that_messages_name() {
        let openapi = openapi();
        let described: BTreeSet<_> =
            operations(&openapi).into_iter().map(|(path, ..)| path.to_owned()).collect();
        let named: BTreeSet<_> = PATHS
            .iter()
            .chain(&admin::PATHS)
            .flat_map(|path| match path.split_once('[') {
                None => vec![(*path).to_owned()],
                Some((front, rest)) => {
                    let (optional, end) = rest.split_once(']').unwrap();
                    vec![format!("{front}{end}"), format!("{front}{optional}{end}")]
                }
            })
            .collect();
        assert_eq!(described, named);
    }

    #[test]
    fn examples_of_requests_are_accepted() {
        let openapi = openapi();
        let mut count = 0;
        for (path, _, operation) in operations(&openapi) {
            let Some(body) = operation.get("requestBody") else { continue };
            let example = body["content"]["application/json"]["example"].to_string();
            let example = example.as_bytes();
            count += 1;
            let model = "iris".parse().unwrap();
            let last = path.rsplit('/').next();
            match last {
                Some("infer") if path.starts_with("/v2") => {
                    let body = Bytes::copy_from_slice(example);
                    let request = v2::decode_request(body.into(), None).unwrap();
                    iris().arrange(request.inputs).unwrap();
                }
                Some("infer") => drop(plain::decode_request(example, &iris()).unwrap()),
                Some("load") => drop(decode_load(model, example).unwrap()),
                Some("unload") => decode_unload(example).unwrap(),
                Some("index") => assert!(IndexRequest::decode(example).unwrap().ready),
                Some("workers") => drop(AddWorkerRequest::decode(example).unwrap()),
                Some("weight") => drop(WeightRequest::decode(example).unwrap()),
                _ => panic!("{path}: read its example here"),
            }
        }
        assert_eq!(count, 10);
    }

    #[test]
    fn what_is_written_has_what_its_schema_requires_and_no_more() {
        let openapi = openapi();
        let error = ErrorDocument { error: "e".into(), request_id: Some("r".into()) };
        let metadata = ModelDocument::from(&iris());
        let entry = json!({"name": "iris", "version": "1", "state": "READY", "reason": ""});
        let entry: IndexDocument = serde_json::from_value(entry).unwrap();
        let example = |path: &str| {
            let answer = &openapi["paths"][path]["get"]["responses"]["200"];
            answer["content"]["application/json"]["example"].clone()
        };
        let mut worker: WorkerDocument =
            serde_json::from_value(example("/admin/workers/{id}")).unwrap();
        // All that there can be.
        worker.error = Some("it refused".to_owned());
        let mut workers: WorkersDocument =
            serde_json::from_value(example("/admin/workers")).unwrap();
        workers.membership.error = Some("no list".to_owned());
        let membership = serde_json::to_value(&workers.membership).unwrap();
        let described = &openapi["components"]["schemas"]["Workers"]["properties"]["membership"];
        assert_members("the membership", described, &membership);
        for (name, written) in [
            ("Error", serde_json::to_value(error).unwrap()),
            ("ModelMetadata", serde_json::to_value(metadata).unwrap()),
            ("IndexEntry", serde_json::to_value(entry).unwrap()),
            ("Worker", serde_json::to_value(worker).unwrap()),
            ("Workers", serde_json::to_value(workers).unwrap()),
            ("Draining", serde_json::to_value(DrainingDocument { draining: true }).unwrap()),
        ] {
            assert_members(name, &openapi["components"]["schemas"][name], &written);
        }
    }

    #[track_caller]
    fn assert_members(name: &str, schema: &Value, written: &Value) {
        let written = written.as_object().unwrap();
        for required in schema["required"].as_array().unwrap() {
            assert!(written.contains_key(required.as_str().unwrap()), "{name}: {required}");
        }
        for member in written.keys() {
            assert!(schema["properties"].get(member).is_some(), "{name}: {member}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(openapi: &Value, value: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(reference) = members.get("$ref") {
                        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                        assert!(openapi.pointer(pointer).is_some(), "{reference}");
                    }
                    members.values().for_each(|value| check(openapi, value));
                }
                Value::Array(items) => items.iter().for_each(|value| check(openapi, value)),
                _ => {}
            }
        }
        check(&openapi(), &openapi());
    }

    #[test]
    fn its_version_is_the_programs() {
        assert_eq!(openapi()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }

    fn iris() -> inferring_types::ModelMetadata {
        let tensor = |name: &str, width: i64| json!({"name": name, "datatype": "FP32", "shape": [-1, width]});
        let document: ModelDocument = serde_json::from_value(json!({
            "name": "iris",
            "versions": ["1"],
            "version": "1",
            "platform": "onnxruntime_onnx",
            "inputs": [tensor("input", 4)],
            "outputs": [tensor("probabilities", 3)],
            "digest": inferring_types::ContentDigest::of(b"iris").to_string(),
            "size_bytes": 1,
            "batching": {"joins_rows": false, "reason": "", "size_max": 0},
        }))
        .unwrap();
        document.try_into().unwrap()
    }
}
