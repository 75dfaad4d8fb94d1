//! The listener for operators, and what clients may not do where there is one.

use std::sync::Arc;

use inferring_protocol::grpc::inference::RepositoryModelUnloadRequest;
use inferring_server::{RepositoryControl, Server, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;

use crate::fixture::{Running, within_a_minute};
use crate::node::EchoNode;

fn config() -> ServerConfig {
    ServerConfig { repository_control: RepositoryControl::Admin, ..ServerConfig::default() }
}

/// A server for operators of a node, until it is dropped.
struct Admin {
    address: std::net::SocketAddr,
    node: Arc<EchoNode>,
    _serving: JoinSet<std::io::Result<usize>>,
}

impl Admin {
    fn start() -> Self {
        let server = Server::bind("127.0.0.1:0").unwrap();
        let (address, node) = (server.local_addr(), EchoNode::new());
        let mut serving = JoinSet::new();
        serving.spawn(server.serve_admin(node.clone(), config(), std::future::pending()));
        Self { address, node, _serving: serving }
    }
}

/// The status and the whole answer.
async fn ask(address: std::net::SocketAddr, request: &str, fields: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within_a_minute(stream.read_to_string(&mut answer)).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[tokio::test]
async fn operators_are_listened_to_where_clients_are_not() {
    let running = Running::start(config());
    let admin = Admin::start();
    for request in ["POST /admin/drain", "GET /admin/workers", "DELETE /admin/workers/w"] {
        let (status, answer) = ask(running.address, request, "").await;
        assert_eq!(status, 404, "{answer}");
        assert!(!answer.contains("/admin/workers/{id}"), "{answer}");
    }
    let (status, answer) = ask(admin.address, "POST /admin/drain", "").await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.ends_with("{\"draining\":true}"), "{answer}");
    assert_eq!(ask(admin.address, "GET /v2/health/ready", "").await.0, 503);
    assert_eq!(ask(admin.address, "POST /admin/undrain", "").await.0, 200);
    assert_eq!(ask(admin.address, "GET /v2/health/ready", "").await.0, 200);
}

#[tokio::test]
async fn what_an_operator_asks_wrongly_is_told() {
    let admin = Admin::start();
    for (request, status, words) in [
        ("GET /admin/drain", 405, "expected POST, OPTIONS"),
        ("PUT /admin/workers/w", 405, "expected GET, HEAD, DELETE, OPTIONS"),
        ("OPTIONS /admin/workers", 204, "allow: GET, HEAD, POST, OPTIONS"),
        ("POST /admin/restart", 404, "/admin/workers/{id}/undrain"),
        ("GET /admin/workers", 404, "it has no workers"),
        ("POST /admin/workers/w/drain", 404, "it has no workers to change"),
        ("POST /admin/workers", 400, "the body is not as expected"),
    ] {
        let (answered, answer) = ask(admin.address, request, "").await;
        assert_eq!(answered, status, "{request}: {answer}");
        assert!(answer.contains(words), "{request}: {answer}");
    }
}

/// A page from anywhere, open in a browser on the operator's machine, can send such requests.
#[tokio::test]
async fn scripts_of_web_pages_are_no_operators() {
    let admin = Admin::start();
    let fields = "origin: http://example.org\r\n";
    let (status, answer) = ask(admin.address, "POST /admin/drain", fields).await;
    assert_eq!(status, 403, "{answer}");
    assert!(admin.node.is_ready.load(std::sync::atomic::Ordering::SeqCst));
}

#[tokio::test]
async fn models_are_loaded_by_operators_alone_where_that_is_set() {
    let (running, admin) = (Running::start(config()), Admin::start());
    for action in ["load", "unload"] {
        let request = format!("POST /v2/repository/models/echo/{action}");
        let (status, answer) = ask(running.address, &request, "").await;
        assert_eq!(status, 403, "{answer}");
        assert!(answer.contains("server.repository_control"), "{answer}");
        let (status, answer) = ask(admin.address, &request, "").await;
        assert_ne!(status, 403, "{answer}");
    }
    // What only tells of models is for everybody.
    assert_eq!(ask(running.address, "POST /v2/repository/index", "").await.0, 200);
    let request =
        || RepositoryModelUnloadRequest { model_name: "echo".into(), ..Default::default() };
    let refused = running.client().await.repository_model_unload(request()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let open = Running::start(ServerConfig::default());
    let answered = open.client().await.repository_model_unload(request()).await;
    assert_ne!(answered.map(drop).map_err(|e| e.code()), Err(Code::PermissionDenied));
}
