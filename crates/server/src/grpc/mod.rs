//! Answers gRPC requests: inference, and the standard health and reflection services.

mod health;
mod inference;
mod message_limits;
mod status;
mod stream;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_TYPE, HeaderMap};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use inferring_protocol::grpc::DESCRIPTORS;
use inferring_protocol::grpc::health::health_server::{self, HealthServer};
use inferring_protocol::grpc::inference::grpc_inference_service_server::{
    self, GrpcInferenceServiceServer,
};
use inferring_protocol::rest::Chunks;
use inferring_protocol::rest::documents::ErrorDocument;
use inferring_types::BoxFuture;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service;
use tonic_reflection::server::Builder;

use crate::Node;
use crate::config::ServerConfig;
use health::Health;
use inference::Inference;
use message_limits::{Limited, MessageLimits};

/// Whether a request's header says that it is one of gRPC.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest, [] | [b';', ..] | [b'+', b'p', b'r', b'o', b't', b'o', ..]),
        None => false,
    }
}

/// Whether a path is one that only clients of gRPC ask for.
pub(crate) fn is_path(path: &str) -> bool {
    path.starts_with("/inference.") || path.starts_with("/grpc.")
}

/// The answer to a request of gRPC that came over HTTP/1.1: in that protocol's terms, since
/// whoever sent it so understands no other.
pub(crate) fn refuse_http1() -> Response<Chunks> {
    let error = "gRPC takes HTTP/2, and this request came over HTTP/1.1: is there a proxy in \
                 between that does not speak HTTP/2 to this server?";
    let document = ErrorDocument { error: error.to_owned(), request_id: None };
    let body = serde_json::to_vec(&document).expect("the document is two texts");
    let mut response = Response::new(Chunks::one(body));
    *response.status_mut() = StatusCode::HTTP_VERSION_NOT_SUPPORTED;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// When a request's head arrived, as the request carries it along.
#[derive(Debug, Clone, Copy)]
struct Arrived(Instant);

type RequestBody = Limited<Incoming>;
type Reflection =
    Box<dyn Fn(Request<RequestBody>) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";
const REFLECTION_ALPHA: &str = "grpc.reflection.v1alpha.ServerReflection";

/// The methods of the inference service.
const METHODS: [&str; 12] = [
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
    "ModelInfer",
    "ModelStreamInfer",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
];

/// The services that there are.
pub(crate) struct Services {
    inference: GrpcInferenceServiceServer<Inference>,
    health: HealthServer<Health>,
    reflection: Reflection,
    reflection_alpha: Reflection,
    limits: MessageLimits,
}

impl Services {
    pub(crate) fn new(
        node: &Arc<dyn Node>,
        config: &ServerConfig,
        closing: &watch::Receiver<bool>,
    ) -> Self {
        let limits = MessageLimits {
            size_max: usize::try_from(config.body_size_max.as_u64()).unwrap_or(usize::MAX),
            timeout: config.body_timeout,
            rate_min: config.rate_min.as_u64(),
        };
        let inference = Inference::new(node.clone(), config.request_timeout, closing.clone());
        let inference = GrpcInferenceServiceServer::new(inference)
            .max_decoding_message_size(limits.size_max)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Deflate)
            .accept_compressed(CompressionEncoding::Zstd);
        let reflection = || Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
        let proof = "the descriptors are generated, and a test asks for them";
        Self {
            inference,
            health: HealthServer::new(Health::new(node.clone(), closing.clone())),
            reflection: callable(reflection().build_v1().expect(proof)),
            reflection_alpha: callable(reflection().build_v1alpha().expect(proof)),
            limits,
        }
    }

    /// Answers a request. Every failure is an answer too.
    pub(crate) async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().trim_start_matches('/').to_owned();
        let (service, method) = path.split_once('/').unwrap_or((&path, ""));
        // A stream may be silent before a message as long as the client likes.
        let awaits_message = !matches!(method, "ModelStreamInfer" | "ServerReflectionInfo");
        let mut request = request.map(|body| Limited::new(body, self.limits, awaits_message));
        request.extensions_mut().insert(Arrived(Instant::now()));
        match service {
            grpc_inference_service_server::SERVICE_NAME if METHODS.contains(&method) => {
                let mut inference = self.inference.clone();
                if let Some(encoding) = encoding(request.headers()) {
                    // Nearly all clients say that they could read compressed answers; those that
                    // compress their requests want them.
                    inference = inference.send_compressed(encoding);
                }
                call(inference, request).await
            }
            health_server::SERVICE_NAME => call(self.health.clone(), request).await,
            REFLECTION => (self.reflection)(request).await,
            REFLECTION_ALPHA => (self.reflection_alpha)(request).await,
            _ => refuse(service, method).into_http(),
        }
    }
}

/// The encoding of a request's messages, where they are compressed.
fn encoding(headers: &HeaderMap) -> Option<CompressionEncoding> {
    match headers.get("grpc-encoding")?.as_bytes() {
        b"gzip" => Some(CompressionEncoding::Gzip),
        b"deflate" => Some(CompressionEncoding::Deflate),
        b"zstd" => Some(CompressionEncoding::Zstd),
        _ => None,
    }
}

fn refuse(service: &str, method: &str) -> Status {
    if service != grpc_inference_service_server::SERVICE_NAME {
        return Status::unimplemented(format!("there is no service `{service}` here"));
    }
    let what = match method {
        _ if method.starts_with("SystemSharedMemory") || method.starts_with("CudaSharedMemory") => {
            "shared memory is not supported: send tensors in the message"
        }
        "TraceSetting" => "tracing cannot be set by a request",
        "LogSettings" => "logging cannot be set by a request",
        _ => "there is no such method",
    };
    Status::unimplemented(format!("`{method}`: {what}"))
}

async fn call<S>(mut service: S, request: Request<RequestBody>) -> Response<Body>
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>,
{
    match service.call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// A service whose type has no name.
fn callable<S>(service: S) -> Reflection
where
    S: Service<Request<RequestBody>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send,
{
    Box::new(move |request| Box::pin(call(service.clone(), request)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_is_taken_for_grpc() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc+json", false),
            ("application/json", false),
        ] {
            let headers =
                HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            assert_eq!(is_grpc(&headers), expected, "{content_type}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (service, method, message) in [
            ("other.Service", "Get", "there is no service `other.Service` here"),
            (
                "inference.GRPCInferenceService",
                "SystemSharedMemoryStatus",
                "`SystemSharedMemoryStatus`: shared memory is not supported: send tensors in the \
                 message",
            ),
            (
                "inference.GRPCInferenceService",
                "LogSettings",
                "`LogSettings`: logging cannot be set by a request",
            ),
            ("inference.GRPCInferenceService", "X", "`X`: there is no such method"),
        ] {
            let status = refuse(service, method);
            assert_eq!((status.code(), status.message()), (tonic::Code::Unimplemented, message));
        }
    }
}
