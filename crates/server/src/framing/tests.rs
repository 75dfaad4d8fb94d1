use super::*;

/// The bytes as hyper gets them, handed over in parts of this length.
fn followed(text: &str, part: usize) -> (String, Framing) {
    let mut framing = Framing::default();
    let mut bytes = text.as_bytes().to_vec();
    bytes.chunks_mut(part).for_each(|part| _ = framing.follow(part));
    (String::from_utf8(bytes).unwrap(), framing)
}

const PARTS: [usize; 6] = [1, 2, 3, 7, 64, 10_000];

#[test]
fn what_can_be_read_in_one_way_only_is_left_as_it_is() {
    let long =
        format!("GET /{} HTTP/1.1\r\nhost: x\r\nx-y: {}\r\n\r\n", "a".repeat(500), "b".repeat(500));
    for text in [
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length:5\r\n\r\na\n\nb\n",
        "POST / HTTP/1.1\r\ncontent-LENGTH: \t0 \r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked \r\n\r\n1\r\n\n\r\n0A;a=b\r\n\ncontent-l\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2 \r\n\n\n\r\n0\r\nx: y\r\ncontent-length: 4\r\n\r\n",
        &long,
    ] {
        for part in PARTS {
            // Twice on the same connection: the second must be found where the first ends.
            let twice = text.repeat(2);
            let (seen, framing) = followed(&twice, part);
            assert_eq!(seen, twice, "{part}");
            assert_eq!(framing.place, Place::Start, "{text:?}, {part}");
        }
    }
}

#[test]
fn an_ambiguous_head_is_spoilt_before_it_ends() {
    for head in [
        "GET / HTTP/1.1\nhost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\n\n",
        "\nGET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 4\r\ncontent-length: 4\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 4\r\nContent-Length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked, identity\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding:\x0bchunked\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding:\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\n\r\n",
        &format!("POST / HTTP/1.1\r\ncontent-length: {}4\r\n\r\n", "0".repeat(80)),
        &format!("POST / HTTP/1.1\r\ntransfer-encoding: {}chunked\r\n\r\n", " ".repeat(80)),
    ] {
        for part in PARTS {
            let before = "POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}";
            let (seen, framing) = followed(&format!("{before}{head}"), part);
            assert_eq!(framing.place, Place::Given, "{head:?}, {part}");
            let (seen_before, seen) = seen.split_at(before.len());
            assert_eq!(seen_before, before);
            assert_eq!(seen.matches('\0').count(), 1, "{head:?}, {part}");
        }
    }
}

#[test]
fn what_ends_the_connection_anyway_is_followed_no_further() {
    for text in [
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n+1\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\n",
    ] {
        for part in PARTS {
            let (seen, framing) = followed(&format!("{text}GET /\n\n"), part);
            assert_eq!(framing.place, Place::Given, "{text:?}");
            assert!(!seen.contains('\0'));
        }
    }
}

#[test]
fn a_head_is_awaited_until_it_ends_and_again_after_its_body() {
    for (head, body) in [
        ("POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n", "body"),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\nbody\r\n0\r\n\r\n"),
    ] {
        let mut framing = Framing::default();
        for (bytes, before, after) in [(head, true, false), (body, false, true)] {
            for byte in bytes.bytes() {
                assert_eq!(framing.is_before_body(), before, "{bytes}");
                framing.follow(&mut [byte]);
            }
            assert_eq!(framing.is_before_body(), after, "{bytes}");
        }
    }
}
