//! Offers to go on in another protocol, over HTTP/1.1.
//!
//! This server takes up none of them, and the standard lets it answer as if they were not there.
//! That is right for offers that clients make to every server they meet. curl and Java's client
//! offer HTTP/2, Apache's offers TLS: they are answered as ever. For the rest it is not. Who asks
//! an inference server for a WebSocket is mistaken, or wants a proxy between the two of us to
//! believe in one: proxies were found that take the connection for a tunnel from then on, whatever
//! the answer, and pass on all that follows unseen. So such a request is refused and its connection
//! ends, which leaves no tunnel to send anything through.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, Version};

/// What a client that offers HTTP/2 says of itself besides.
const SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Whether a request of this version offers what nobody has reason to offer here.
pub(crate) fn is_spurious(version: Version, fields: &HeaderMap) -> bool {
    // RFC 9110, 7.8: of HTTP/1.0 it must be passed over.
    if version == Version::HTTP_10 || !fields.contains_key(UPGRADE) {
        return false;
    }
    let mut offers = fields.get_all(UPGRADE).iter();
    let (Some(offer), None) = (offers.next(), offers.next()) else { return true };
    if !connection_lists(fields, UPGRADE.as_str()) {
        return true;
    }
    match offer.as_bytes() {
        // RFC 7540, 3.2.1: settings once, and for this connection alone.
        b"h2c" => {
            let settings = fields.get_all(SETTINGS).iter().count();
            settings != 1 || !connection_lists(fields, SETTINGS.as_str())
        }
        // RFC 2817: versions of one protocol.
        offer => {
            !offer.split(|&byte| byte == b',').all(|one| one.trim_ascii().starts_with(b"TLS/"))
        }
    }
}

/// Whether `Connection` says that the field of this name is for this connection alone.
fn connection_lists(fields: &HeaderMap, name: &str) -> bool {
    let listed = fields.get_all(CONNECTION).iter().flat_map(|v| v.as_bytes().split(|&b| b == b','));
    listed.map(<[u8]>::trim_ascii).any(|one| one.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn fields(text: &'static str) -> HeaderMap {
        let field = |line: &'static str| {
            let (name, value) = line.split_once(": ").unwrap();
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        text.lines().map(field).collect()
    }

    #[test]
    fn offers_that_clients_make_to_everybody_are_borne() {
        for text in [
            "host: x",
            "connection: Upgrade, HTTP2-Settings\nupgrade: h2c\nhttp2-settings: AAMAAABk",
            "connection: upgrade\nconnection: http2-settings\nupgrade: h2c\nhttp2-settings: AAMAAABk",
            "connection: Upgrade\nupgrade: TLS/1.2",
            "connection: keep-alive,upgrade\nupgrade: TLS/1.0, TLS/1.2",
        ] {
            assert!(!is_spurious(Version::HTTP_11, &fields(text)), "{text}");
        }
    }

    #[test]
    fn all_others_are_spurious_but_where_the_version_knows_none() {
        for text in [
            "connection: Upgrade\nupgrade: websocket",
            "connection: Upgrade\nupgrade: ",
            "connection: Upgrade\nupgrade: h2",
            "connection: Upgrade\nupgrade: TLS/1.2, websocket",
            "connection: Upgrade, HTTP2-Settings\nupgrade: h2c, websocket\nhttp2-settings: AA",
            "connection: Upgrade, HTTP2-Settings\nupgrade: h2c\nupgrade: h2c\nhttp2-settings: AA",
            "connection: Upgrade, HTTP2-Settings\nupgrade: h2c",
            "connection: Upgrade, HTTP2-Settings\nupgrade: h2c\nhttp2-settings: AA\nhttp2-settings: AA",
            "connection: Upgrade\nupgrade: h2c\nhttp2-settings: AA",
            "connection: HTTP2-Settings\nupgrade: h2c\nhttp2-settings: AA",
            "connection: not-upgrade\nupgrade: TLS/1.2",
            "upgrade: TLS/1.2",
        ] {
            assert!(is_spurious(Version::HTTP_11, &fields(text)), "{text}");
            assert!(!is_spurious(Version::HTTP_10, &fields(text)), "{text}");
        }
    }
}
