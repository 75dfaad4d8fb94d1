//! Requests over HTTP/1.1 that two readers may read as different ones, each with another request
//! hidden behind it or in it: whoever reads it wrongly answers twice, or runs the hidden one.

/// An attempt.
#[derive(Debug)]
pub struct Attempt {
    /// What is wrong with it.
    pub name: String,
    /// What is sent, the hidden request included.
    pub bytes: Vec<u8>,
}

/// Something that nothing but a hidden request contains.
pub const MARK: &str = "x-hidden: yes";

/// Every attempt against `path`, where `body` is one that would be accepted.
pub fn attempts(path: &str, body: &str) -> Vec<Attempt> {
    let length = body.len();
    let hidden = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\n{MARK}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
    let mut attempts = Vec::new();
    let mut add = |name: &str, bytes: String| {
        attempts.push(Attempt { name: name.to_owned(), bytes: bytes.into_bytes() });
    };

    // Fields that speak of the body. Read by one of them the body ends at once, and what is
    // hidden is the next request; read by the other it belongs to the body.
    let all = hidden.len();
    let whole = chunked.len() + all;
    let headed = |fields: &str, rest: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n\r\n{rest}{hidden}")
    };
    for (name, fields) in [
        (
            "a length, then chunked",
            format!("Content-Length: {whole}\r\nTransfer-Encoding: chunked"),
        ),
        (
            "chunked, then a length",
            format!("Transfer-Encoding: chunked\r\nContent-Length: {whole}"),
        ),
        (
            "chunked, then a length of nothing",
            "Transfer-Encoding: chunked\r\nContent-Length: 0".into(),
        ),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked".into()),
        (
            "chunked, then as it is",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity".into(),
        ),
        ("as it is, then chunked", "Transfer-Encoding: identity, chunked".into()),
        ("chunked, then as it is, in one field", "Transfer-Encoding: chunked, identity".into()),
        ("compressed and chunked", "Transfer-Encoding: gzip, chunked".into()),
        ("as it is", "Transfer-Encoding: identity".into()),
        ("an unknown coding", "Transfer-Encoding: xchunked".into()),
        ("chunked in quotes", "Transfer-Encoding: \"chunked\"".into()),
        ("chunked with a parameter", "Transfer-Encoding: chunked;q=1".into()),
        ("chunked behind a vertical tab", "Transfer-Encoding: \x0bchunked".into()),
        ("chunked behind NUL", "Transfer-Encoding: \0chunked".into()),
        ("chunked before a comma", "Transfer-Encoding: chunked,".into()),
        ("no coding", "Transfer-Encoding:".into()),
        ("space before the colon of chunked", "Transfer-Encoding : chunked".into()),
        ("tab before the colon of chunked", "Transfer-Encoding\t: chunked".into()),
        ("chunked on a line folded", "Transfer-Encoding:\r\n chunked".into()),
        (
            "chunked on the line folded behind another",
            "X-A: b\r\n Transfer-Encoding: chunked".into(),
        ),
        ("chunked on a line that begins with space", " Transfer-Encoding: chunked".into()),
        ("chunked behind a bare CR", "X-A: b\rTransfer-Encoding: chunked".into()),
        ("chunked behind a bare LF", "X-A: b\nTransfer-Encoding: chunked".into()),
        ("chunked in a field of no name", ": chunked".into()),
    ] {
        add(name, headed(&fields, &chunked));
    }
    for (name, fields) in [
        ("two lengths", format!("Content-Length: {length}\r\nContent-Length: {}", length + all)),
        (
            "two lengths, the greater first",
            format!("Content-Length: {}\r\nContent-Length: {length}", length + all),
        ),
        ("one length twice", format!("Content-Length: {length}\r\nContent-Length: {length}")),
        ("a list of lengths", format!("Content-Length: {length}, {length}")),
        ("a length with a sign", format!("Content-Length: +{length}")),
        ("a length below zero", "Content-Length: -1".into()),
        ("a length in hexadecimal", format!("Content-Length: 0x{length:x}")),
        ("a length in two parts", "Content-Length: 1 0".into()),
        ("a length with a fraction", format!("Content-Length: {length}.0")),
        ("a length too large to count", "Content-Length: 99999999999999999999".into()),
        (
            "a length of 2^64 and a few",
            format!("Content-Length: {}", (1_u128 << 64) + length as u128),
        ),
        ("an empty length", "Content-Length:".into()),
        ("space before the colon of a length", format!("Content-Length : {length}")),
        ("a length on a line folded", format!("Content-Length:\r\n {length}")),
        ("a length behind a bare LF", format!("X-A: b\nContent-Length: {length}")),
        ("a length before a bare LF", format!("Content-Length: {length}\nX-A: b")),
        ("a length with NUL", format!("Content-Length: {length}\0")),
        ("two hosts", format!("Host: y\r\nContent-Length: {length}")),
    ] {
        add(name, headed(&fields, body));
    }

    // Who believes in the other protocol passes on what follows without a look.
    for (name, fields) in [
        ("an upgrade to a WebSocket", "Connection: Upgrade\r\nUpgrade: websocket"),
        ("an upgrade to HTTP/2 as it is over TLS", "Connection: Upgrade\r\nUpgrade: h2"),
        ("an upgrade to nothing", "Connection: Upgrade\r\nUpgrade:"),
        ("an upgrade that Connection does not list", "Upgrade: TLS/1.2"),
        (
            "an upgrade to HTTP/2 without its settings",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c",
        ),
        (
            "an upgrade to HTTP/2 whose settings would be passed on",
            "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        ),
        (
            "an upgrade to HTTP/2, or to a WebSocket",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c, websocket\r\nHTTP2-Settings: AAMAAABk",
        ),
        (
            "two upgrades",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nUpgrade: websocket\r\nHTTP2-Settings: AAMAAABk",
        ),
    ] {
        add(name, headed(&format!("{fields}\r\nContent-Length: {length}"), body));
    }

    // Chunks that do not add up.
    for (name, chunks) in [
        ("a chunk of no size", format!("\r\n{chunked}")),
        ("a chunk size that is no number", format!("zz\r\n{chunked}")),
        ("a chunk size below zero", format!("-1\r\n{chunked}")),
        ("a chunk size with a sign", format!("+{chunked}")),
        ("a chunk size with 0x", format!("0x{chunked}")),
        ("a chunk size in two parts", format!("1 1\r\n{chunked}")),
        ("a chunk size of 2^64 and a few", format!("10000000000000002\r\n{body}\r\n0\r\n\r\n")),
        ("a chunk that is longer than it says", format!("1\r\n{body}\r\n0\r\n\r\n")),
        ("a chunk size that ends with a bare LF", format!("{length:x}\n{body}\r\n0\r\n\r\n")),
        (
            "a chunk extension that ends with a bare LF",
            format!("{length:x};a\n{body}\r\n0\r\n\r\n"),
        ),
        ("a chunk that ends with a bare LF", format!("{length:x}\r\n{body}\n0\r\n\r\n")),
        ("a chunk that ends with other two bytes", format!("{length:x}\r\n{body}xx0\r\n\r\n")),
        ("a chunk size with a bare CR", format!("{length:x}\rx\r\n{body}\r\n0\r\n\r\n")),
        ("trailers that end with a bare LF", format!("{length:x}\r\n{body}\r\n0\r\nX-A: b\n\r\n")),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        add(name, format!("{head}{chunks}{hidden}"));
    }

    // Lines that are none, or end where others do not see it.
    let fields = format!("Host: x\r\nContent-Length: {length}");
    for (name, head) in [
        (
            "chunked in HTTP/1.0",
            "POST {path} HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
        ),
        (
            "a request line that ends with a bare LF",
            format!("POST {{path}} HTTP/1.1\n{fields}\r\n\r\n"),
        ),
        ("a head that ends with a bare LF", format!("POST {{path}} HTTP/1.1\r\n{fields}\r\n\n")),
        (
            "all lines end with a bare LF",
            format!("POST {{path}} HTTP/1.1\nHost: x\nContent-Length: {length}\n\n"),
        ),
        (
            "an empty line of a bare LF before it",
            format!("\nPOST {{path}} HTTP/1.1\r\n{fields}\r\n\r\n"),
        ),
        ("NUL in a field", format!("POST {{path}} HTTP/1.1\r\nX-A: \0\r\n{fields}\r\n\r\n")),
        ("NUL in a name", format!("POST {{path}} HTTP/1.1\r\nX-\0A: b\r\n{fields}\r\n\r\n")),
        ("NUL in the path", format!("POST {{path}}\0 HTTP/1.1\r\n{fields}\r\n\r\n")),
        ("space in a name", format!("POST {{path}} HTTP/1.1\r\nX A: b\r\n{fields}\r\n\r\n")),
        ("no colon", format!("POST {{path}} HTTP/1.1\r\nX-A\r\n{fields}\r\n\r\n")),
        ("two spaces before the path", format!("POST  {{path}} HTTP/1.1\r\n{fields}\r\n\r\n")),
        ("two spaces behind the path", format!("POST {{path}}  HTTP/1.1\r\n{fields}\r\n\r\n")),
        ("a tab before the path", format!("POST\t{{path}} HTTP/1.1\r\n{fields}\r\n\r\n")),
        ("a version that is none", format!("POST {{path}} HTTP/1.10\r\n{fields}\r\n\r\n")),
        ("a version in small letters", format!("POST {{path}} http/1.1\r\n{fields}\r\n\r\n")),
        ("no version", format!("POST {{path}}\r\n{fields}\r\n\r\n")),
        ("a method that is none", format!("PO(ST {{path}} HTTP/1.1\r\n{fields}\r\n\r\n")),
        ("no host", format!("POST {{path}} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n")),
    ] {
        let rest = if head.contains("chunked") { &chunked } else { body };
        add(name, format!("{}{rest}{hidden}", head.replace("{path}", path)));
    }
    attempts
}
