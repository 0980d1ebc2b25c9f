//! The server without VMs: tokens, hostile requests, limits of connections.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, Response};
use http_body_util::BodyExt;
use hypeman_host::{Config as HostConfig, Host};
use hypeman_record::data_dir::DataDir;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::app::App;
use crate::config::Config;
use crate::connection::Connections;
use crate::listen::{Address, Listener};
use crate::metrics::Metrics;
use crate::routes::Api;
use crate::scope::Scope;
use crate::secret::Secret;
use crate::telemetry::Telemetry;
use crate::token::{Grant, Verifier, issue};

/// A server with a data directory of its own.
struct Bed {
    router: Router,
    secret: Secret,
    stopping: CancellationToken,
    _data_dir: tempfile::TempDir,
}

impl Bed {
    fn new() -> Bed {
        let data_dir = tempfile::tempdir().unwrap();
        let host = Host::open(HostConfig {
            data_dir: DataDir::new(data_dir.path()),
            must_exist: true,
            hypeman: "/nonexistent/hypeman".into(),
            init: "/nonexistent/hypeman-init".into(),
            max_image_size: 1 << 30,
        });
        let secret = Secret::of(None, data_dir.path()).unwrap();
        let stopping = CancellationToken::new();
        let api = Api::new();
        let config = Config::default();
        let metrics = Metrics::new(&Telemetry::start(&config).unwrap().meter());
        let verifier = Verifier::new(&secret);
        let app = App::new(host.unwrap(), config, verifier, api.scopes(), metrics, stopping.clone());
        Bed { router: api.router(app), secret, stopping, _data_dir: data_dir }
    }

    fn token(&self, scopes: Option<Vec<Scope>>) -> String {
        let grant = Grant { user: "a".to_owned(), duration: Duration::from_secs(60), scopes };
        issue(&self.secret, &grant)
    }

    async fn send(&self, method: &str, path: &str, token: &str, body: &str) -> Response<Body> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("authorization", format!("Bearer {token}"));
        let request = request.body(Body::from(body.to_owned())).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Sends a request with a token for everything; the status, and the body if that is JSON.
    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let response = self.send(method, path, &self.token(None), body).await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }
}

/// Method, path and scope of each operation that wants a token, with an id in the path.
fn operations() -> Vec<(Method, String, String)> {
    let facts: Value = serde_json::from_str(include_str!("../tests/operations.json")).unwrap();
    let all = ["operations", "outside_openapi"].map(|part| facts[part].as_array().unwrap().clone()).concat();
    let with_scope = all.into_iter().filter_map(|operation| {
        let scope = operation["scope"].as_str()?.to_owned();
        let path = operation["path"].as_str()?.split('/');
        let path: Vec<&str> = path.map(|part| if part.starts_with('{') { "0" } else { part }).collect();
        Some((operation["method"].as_str()?.parse().ok()?, path.join("/"), scope))
    });
    with_scope.collect()
}

#[tokio::test]
async fn a_token_with_one_scope_reaches_exactly_its_operations() {
    let bed = Bed::new();
    let operations = operations();
    assert_eq!(operations.len(), 64, "62 operations with a scope, exec and cp");
    for scope in Scope::all() {
        let token = bed.token(Some(vec![scope]));
        for (method, path, wanted) in &operations {
            // Well-formed for each, so that the scope is what is refused first.
            let body = r#"{"name":"a","image":"b","kind":"Stopped","target":"c"}"#;
            let path = format!("{path}?state=Running&path=/");
            let status = bed.send(method.as_str(), &path, &token, body).await.status().as_u16();
            let is_forbidden = status == 403;
            assert_eq!(is_forbidden, *wanted != scope.to_string(), "{method} {path} with {scope}: {status}");
            assert_ne!(status, 401, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn requests_are_refused_in_upstream_s_order() {
    let bed = Bed::new();
    let weak = bed.token(Some(Vec::new()));
    let status = async |method: &str, path: &str, token: &str, body: &str| {
        bed.send(method, path, token, body).await.status().as_u16()
    };
    assert_eq!(status("GET", "/nothing", "x", "").await, 404);
    assert_eq!(status("PUT", "/instances", "x", "").await, 405);
    assert_eq!(status("POST", "/instances/0/fork", "x", "{").await, 401);
    assert_eq!(status("POST", "/instances/0/fork", &weak, "{").await, 400);
    assert_eq!(status("POST", "/instances/0/fork", &weak, r#"{"name":"a"}"#).await, 403);
    let (status, body) = bed.ask("POST", "/instances/nobody/fork", r#"{"name":"a"}"#).await;
    assert_eq!((status, &body["code"]), (404, &"not_found".into()));
    for (method, path) in [("POST", "/instances/0/start"), ("POST", "/snapshots/0/fork")] {
        let (status, body) = bed.ask(method, path, "").await;
        assert_eq!((status, &body["code"]), (400, &"Bad Request".into()), "a body is required");
    }
    let (status, _) = bed.ask("POST", "/instances/0/standby", "").await;
    assert_eq!(status, 404, "a body is optional");
}

#[tokio::test]
async fn ids_are_no_paths_and_bad_values_are_named() {
    let bed = Bed::new();
    for id in ["..", "%2e%2e", "..%2f..%2fetc", "%00", "a%00b", "%2f", ".lock", &"a".repeat(10_000)] {
        for path in ["/instances/ID", "/images/ID", "/snapshots/ID", "/instances/ID/logs"] {
            let path = path.replace("ID", id);
            let (status, body) = bed.ask("GET", &path, "").await;
            assert!([400, 404].contains(&status) && body["code"].is_string(), "{path}: {status} {body}");
        }
    }
    assert_eq!(bed.ask("GET", "/instances/%ff", "").await.0, 400);
    let wrong = [
        (r#"{"image":"b"}"#, "name"),
        (r#"{"name":"A","image":"b"}"#, "name"),
        (r#"{"name":"a","image":"b","vcpus":"2"}"#, "vcpus"),
        (r#"{"name":"a","image":"b","tags":{"k":"ü"}}"#, "tags"),
        (r#"{"name":"a","image":"b","hypervisor":"xen"}"#, "hypervisor"),
        (r#"{"name":"a","image":"B B"}"#, "B B"),
        (r#"{"name":"a","image":"b","volumes":[{}]}"#, "volumes"),
    ];
    for (body, word) in wrong {
        let (status, answer) = bed.ask("POST", "/instances", body).await;
        assert!([400, 501].contains(&status), "{body}: {status}");
        assert!(answer["message"].as_str().unwrap().contains(word), "{body}: {answer}");
    }
}

#[tokio::test]
async fn the_specification_and_its_page_want_no_token() {
    let bed = Bed::new();
    let get = async |path: &str| {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        let response = bed.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().into()).unwrap()
    };
    let json: Value = serde_json::from_str(&get("/spec.json").await).unwrap();
    assert_eq!(json["openapi"].as_str().unwrap().get(..3), Some("3.1"));
    let yaml: Value = serde_yaml_ng::from_str(&get("/spec.yaml").await).unwrap();
    assert_eq!(yaml, json);
    let page = get("/swagger").await;
    assert!(page.contains("/instances/{id}/standby") && page.contains("instance:write"));
    assert!(!page.contains("<script") && !page.contains("http://") && !page.contains("https://"));
    get("/health").await;
}

/// Serves a bed on a port of its own.
async fn serve(bed: &Bed) -> std::net::SocketAddr {
    let listener = Listener::bind(&"127.0.0.1:0".parse::<Address>().unwrap()).await.unwrap();
    let address = listener.shown().trim_start_matches("http://").parse().unwrap();
    let connections = Connections::new(bed.router.clone(), bed.stopping.clone());
    tokio::spawn(connections.accept(listener));
    address
}

/// Sends bytes; the status line of the answer.
async fn status_line(address: std::net::SocketAddr, head: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(head).await; // it may hang up before all is sent
    let mut answer = [0; 64];
    let count = stream.read(&mut answer).await.unwrap_or(0);
    String::from_utf8_lossy(&answer[..count]).lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_slow_clients_keep_nobody_waiting() {
    let bed = Bed::new();
    let address = serve(&bed).await;
    let headers: String = (0..10_000).map(|number| format!("h{number}: x\r\n")).collect();
    let many = format!("GET /health HTTP/1.1\r\n{headers}\r\n");
    let line = status_line(address, many.as_bytes()).await;
    assert!(line.contains("431") || line.is_empty(), "{line}");
    let long = format!("GET /{} HTTP/1.1\r\n", "x".repeat(1 << 20));
    let line = status_line(address, long.as_bytes()).await;
    assert!(line.contains("414") || line.contains("431") || line.is_empty(), "{line}");
    // Heads that never end, and bodies that never come.
    let mut slow = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head: &[u8] = if number % 2 == 0 {
            b"GET /health HTTP/1.1\r\nx: "
        } else {
            b"POST /instances HTTP/1.1\r\ncontent-length: 10000000000\r\n\r\n"
        };
        stream.write_all(head).await.unwrap();
        slow.push(stream);
    }
    let line = status_line(address, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(line, "HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_body_of_ten_gigabytes_is_refused_when_it_is_larger_than_any() {
    let bed = Bed::new();
    let address = serve(&bed).await;
    let token = bed.token(None);
    let announced = "content-length: 10737418240\r\n\r\n".to_owned();
    // One that does not say how long it is, in pieces of 64 KiB.
    let in_pieces = "transfer-encoding: chunked\r\n\r\n".to_owned();
    let (plain, chunk) = (vec![b'x'; 1 << 16], [b"10000\r\n", &[b'x'; 1 << 16][..], b"\r\n"].concat());
    for (length, piece) in [(announced, plain), (in_pieces, chunk)] {
        let (mut from, mut to) = TcpStream::connect(address).await.unwrap().into_split();
        let head =
            format!("POST /instances HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n{length}");
        to.write_all(head.as_bytes()).await.unwrap();
        let flood = async {
            let mut sent = 0_u64;
            while sent < 10 << 30 && to.write_all(&piece).await.is_ok() {
                sent += piece.len() as u64;
            }
            sent
        };
        let refused = async {
            let mut answer = [0; 64];
            let count = from.read(&mut answer).await.unwrap();
            String::from_utf8_lossy(&answer[..count]).lines().next().unwrap_or_default().to_owned()
        };
        let (sent, line) = tokio::join!(flood, refused);
        assert!(sent < 64 << 20 && line.contains(" 413 "), "{sent} bytes: {line}");
    }
}

#[tokio::test]
async fn a_connection_ends_with_its_request_when_the_server_stops() {
    let bed = Bed::new();
    let address = serve(&bed).await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 1024];
    assert!(idle.read(&mut answer).await.unwrap() > 0);
    bed.stopping.cancel();
    let rest = tokio::time::timeout(Duration::from_secs(60), idle.read(&mut answer)).await;
    assert_eq!(rest.expect("it ends").unwrap(), 0);
}
