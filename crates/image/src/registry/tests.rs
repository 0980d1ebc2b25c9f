use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};

use super::*;

/// Answers each request by what `answer` makes of its head; the heads can be had in their order.
fn serve(answer: impl Fn(&str, &mut TcpStream) + Send + 'static) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, heads) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|length| length > 0) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            answer(&head, &mut stream);
            let _ = sender.send(head);
        }
    });
    (port, heads)
}

/// Sends an answer with a length, and hangs up.
fn send(stream: &mut TcpStream, status: &str, headers: &str, body: &str) {
    let length = body.len();
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}

/// Sends as long as somebody takes it.
fn flood(stream: &mut TcpStream) {
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    while stream.write_all(&[b' '; 65536]).is_ok() {}
}

fn password() -> Login {
    Login::Password { user: "ada".to_owned(), password: "lovelace".to_owned() }
}

fn with<T>(port: u16, login: Login, pace: Pace, ask: impl AsyncFnOnce(Registry) -> T) -> T {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let reference = Reference::parse(&format!("127.0.0.1:{port}/app:1")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { ask(Registry::new(&reference, login, pace).unwrap()).await })
}

/// Asks for a manifest and returns the result.
fn manifest(port: u16, login: Login) -> Result<Vec<u8>, Failed> {
    with(port, login, Pace::default(), async |registry: Registry| registry.manifest("1").await)
}

#[test]
fn a_manifest_a_token_and_an_error_without_end_are_read_up_to_a_limit() {
    let (port, _heads) = serve(|_, stream| flood(stream));
    assert!(matches!(manifest(port, Login::Anonymous), Err(Failed::Refused(why)) if why.contains("4194304")));
    let (tokens, _heads) = serve(|_, stream| flood(stream));
    let (port, _heads) = serve(move |_, stream| {
        let challenge = format!("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{tokens}/token\"\r\n");
        send(stream, "401 Unauthorized", &challenge, "");
    });
    assert!(matches!(manifest(port, Login::Anonymous), Err(Failed::Refused(why)) if why.contains("token")));
    let (port, _heads) = serve(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\n");
        while stream.write_all(&[b' '; 65536]).is_ok() {}
    });
    assert!(matches!(manifest(port, Login::Anonymous), Err(Failed::Answer { code: 500, .. })));
}

#[test]
fn a_transfer_that_drips_is_given_up() {
    let (port, _heads) = serve(|_, stream| {
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        // Never silent for as long as the window.
        while stream.write_all(b" ").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let pace = Pace::with_window(Duration::from_millis(200));
    let failed = with(port, Login::Anonymous, pace, async |registry: Registry| registry.manifest("1").await);
    assert!(matches!(failed, Err(Failed::TooSlow)), "{failed:?}");
}

#[test]
fn a_token_realm_gets_the_password_and_the_registry_the_token() {
    let (realm, asked) = serve(|_, stream| send(stream, "200 OK", "", r#"{"token":"t0k3n"}"#));
    let (port, heads) = serve(move |head, stream| {
        if head.contains("Bearer t0k3n") {
            return send(stream, "200 OK", "", "{}");
        }
        let challenge =
            format!("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{realm}/token\",service=\"s\"\r\n");
        send(stream, "401 Unauthorized", &challenge, "");
    });
    assert_eq!(manifest(port, password()).unwrap(), b"{}");
    let asked = asked.recv().unwrap();
    assert!(asked.starts_with("GET /token?scope=repository%3Aapp%3Apull&service=s "), "{asked}");
    assert!(asked.to_lowercase().contains("authorization: basic ywrhomxvdmvsywnl"), "{asked}");
    assert!(
        !heads.recv().unwrap().to_lowercase().contains("authorization"),
        "the registry has not asked yet"
    );
    assert!(!heads.recv().unwrap().contains("Basic"), "the registry gets the token, not the password");
}

#[test]
fn a_realm_elsewhere_without_tls_gets_no_password() {
    let (port, _heads) = serve(|_, stream| {
        let challenge = "WWW-Authenticate: Bearer realm=\"http://registry.invalid/token\"\r\n";
        send(stream, "401 Unauthorized", challenge, "");
    });
    assert!(
        matches!(manifest(port, password()), Err(Failed::Refused(why)) if why.contains("registry.invalid"))
    );
}

#[test]
fn whoever_a_layer_lies_with_gets_no_credentials() {
    // Another port is another host to the rule, and two of them cannot be had on loopback
    // otherwise.
    let (storage, heads) = serve(|_, stream| send(stream, "200 OK", "", "layer"));
    let (port, _heads) = serve(move |head, stream| match head.contains("Basic ") {
        true => {
            send(stream, "307 Temporary Redirect", &format!("Location: http://127.0.0.1:{storage}/x\r\n"), "")
        }
        false => send(stream, "401 Unauthorized", "WWW-Authenticate: Basic realm=\"x\"\r\n", ""),
    });
    let fetched = with(port, password(), Pace::default(), async |registry: Registry| {
        registry.document("sha256:0", 100).await
    });
    assert_eq!(fetched.unwrap(), b"layer");
    let head = heads.recv().unwrap().to_lowercase();
    assert!(head.starts_with("get /x ") && !head.contains("authorization"), "{head}");
}

#[test]
fn circles_of_redirects_end() {
    let (port, _heads) =
        serve(|_, stream| send(stream, "302 Found", "Location: /v2/app/manifests/1\r\n", ""));
    assert!(matches!(manifest(port, Login::Anonymous), Err(Failed::Refused(_))));
}

#[test]
fn a_busy_registry_says_for_how_long() {
    let (port, _heads) = serve(|_, stream| send(stream, "429 Too Many", "Retry-After: 7\r\n", "slow down"));
    let failed = manifest(port, Login::Anonymous).unwrap_err();
    assert!(failed.is_passing() && failed.wait() == Some(Duration::from_secs(7)), "{failed:?}");
    assert!(failed.explain("r").contains("429: slow down"));
}

#[test]
fn only_this_machine_may_do_without_tls() {
    for registry in ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
        assert!(is_loopback(registry), "{registry}");
    }
    for registry in ["docker.io", "127.0.0.1.example.com", "10.0.0.1:5000"] {
        assert!(!is_loopback(registry), "{registry}");
    }
}
