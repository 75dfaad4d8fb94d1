//! Content codings: bodies that are compressed on their way, in both directions.

use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING};
use http::{HeaderMap, HeaderValue};

use super::Chunks;

/// A way to compress a body, by its name in HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// RFC 8878, with the window that RFC 9659 sets for HTTP.
    Zstd,
    /// RFC 1952.
    Gzip,
    /// RFC 1950; a bare RFC 1951 stream, which some clients send under this name, is read too.
    Deflate,
}

/// A coding that is not known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("content encoding `{0}` is not supported: expected {known}", known = Coding::NAMES)]
pub struct UnknownCoding(String);

/// Why a body cannot be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum CodingError {
    /// It would be longer than the limit.
    #[error("the decompressed body is larger than the limit of {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// It is not what its coding promises, or it is cut off.
    #[error("the body is not valid {}", coding.name())]
    Malformed {
        /// The coding.
        coding: Coding,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
}

impl Coding {
    /// The names of all, for people and for `Accept-Encoding`; those preferred first.
    pub const NAMES: &'static str = "zstd, gzip, deflate";

    const ALL: [Self; 3] = [Self::Zstd, Self::Gzip, Self::Deflate];

    /// The name in HTTP.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Self::ALL.into_iter().find(|coding| coding.name().eq_ignore_ascii_case(name))
    }

    /// The codings of a message's body, in the order in which they were applied.
    ///
    /// # Errors
    /// [`UnknownCoding`] where one of them cannot be undone here.
    pub fn of(headers: &HeaderMap) -> Result<Vec<Self>, UnknownCoding> {
        let mut codings = Vec::new();
        for value in headers.get_all(CONTENT_ENCODING) {
            let list = value.to_str().map_err(|_| UnknownCoding(shown(value)))?;
            for name in list.split(',').map(str::trim) {
                if name.is_empty() || name.eq_ignore_ascii_case("identity") {
                    continue;
                }
                codings.push(Self::from_name(name).ok_or_else(|| UnknownCoding(shown(value)))?);
            }
        }
        Ok(codings)
    }

    /// The coding that a client would best have its answer in; `None` for as it is.
    pub fn preferred(headers: &HeaderMap) -> Option<Self> {
        let mut wishes = Wishes::default();
        for value in headers.get_all(ACCEPT_ENCODING) {
            value.to_str().ok()?.split(',').for_each(|wish| wishes.read(wish));
        }
        let best = Self::ALL
            .into_iter()
            .enumerate()
            .map(|(index, coding)| (wishes.codings[index].or(wishes.any).unwrap_or(0), coding));
        // Of equals the first of ours.
        let best = best.rev().max_by_key(|&(weight, _)| weight);
        best.filter(|&(weight, _)| weight > 0 && weight >= wishes.identity.unwrap_or(0))
            .map(|(_, coding)| coding)
    }

    /// Decompresses a body to at most `limit` bytes; no more are ever held.
    ///
    /// # Errors
    /// [`CodingError`]
    pub fn decode(self, body: &[u8], limit: usize) -> Result<Vec<u8>, CodingError> {
        /// The base-2 logarithm of 8 MiB.
        const WINDOW_MAX: u32 = 23;
        let decoded = match self {
            Self::Gzip => read_all(MultiGzDecoder::new(body), limit, |_| true),
            Self::Deflate if is_zlib(body) => {
                read_all(ZlibDecoder::new(body), limit, |decoder| decoder.get_ref().is_empty())
            }
            Self::Deflate => {
                read_all(DeflateDecoder::new(body), limit, |decoder| decoder.get_ref().is_empty())
            }
            Self::Zstd => zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
                decoder.window_log_max(WINDOW_MAX)?;
                read_all(decoder, limit, |_| true)
            }),
        };
        match decoded {
            Ok(Some(decoded)) => Ok(decoded),
            Ok(None) => Err(CodingError::TooLarge { limit }),
            Err(source) => Err(CodingError::Malformed { coding: self, source }),
        }
    }

    /// Compresses a body, for speed rather than for size.
    pub fn encode(self, body: Chunks) -> Chunks {
        let fast = Compression::fast();
        let out = Vec::with_capacity(usize::try_from(body.length() / 2).unwrap_or(0));
        let encoded = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, fast);
                write_all(&mut encoder, body).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(out, fast);
                write_all(&mut encoder, body).and_then(|()| encoder.finish())
            }
            Self::Zstd => zstd::stream::write::Encoder::new(out, 1).and_then(|mut encoder| {
                write_all(&mut encoder, body)?;
                encoder.finish()
            }),
        };
        Chunks::one(encoded.expect("compressing memory into memory does not fail"))
    }
}

/// What `Accept-Encoding` says, in thousandths.
#[derive(Debug, Default)]
struct Wishes {
    codings: [Option<u16>; Coding::ALL.len()],
    identity: Option<u16>,
    any: Option<u16>,
}

impl Wishes {
    /// Reads one item, such as `gzip;q=0.5`. What is malformed is no wish.
    fn read(&mut self, wish: &str) {
        let mut parts = wish.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight = match weight.map(str::parse::<f32>) {
            None => 1000,
            Some(Ok(weight)) if (0.0..=1.0).contains(&weight) => (weight * 1000.0) as u16,
            Some(_) => return,
        };
        if name == "*" {
            self.any = Some(weight);
        } else if name.eq_ignore_ascii_case("identity") {
            self.identity = Some(weight);
        } else if let Some(coding) = Coding::from_name(name) {
            self.codings[coding as usize] = Some(weight);
        }
    }
}

/// Everything that comes out, or `None` where that is more than `limit` bytes; `is_at_end` tells
/// afterwards whether all went in.
fn read_all<R: Read>(
    mut decoder: R,
    limit: usize,
    is_at_end: impl Fn(&R) -> bool,
) -> io::Result<Option<Vec<u8>>> {
    let mut decoded = Vec::new();
    let limit_and_one = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder.by_ref().take(limit_and_one).read_to_end(&mut decoded)?;
    if decoded.len() > limit {
        return Ok(None);
    }
    if !is_at_end(&decoder) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "bytes remain behind its end"));
    }
    Ok(Some(decoded))
}

fn write_all(encoder: &mut impl Write, body: Chunks) -> io::Result<()> {
    body.into_parts().try_for_each(|part| encoder.write_all(&part))
}

/// Whether a body begins as RFC 1950 says: a method of 8, a window that exists, and a checksum.
fn is_zlib(body: &[u8]) -> bool {
    let &[method, flags, ..] = body else { return false };
    method & 0x0f == 8 && method >> 4 <= 7 && u16::from_be_bytes([method, flags]).is_multiple_of(31)
}

fn shown(value: &HeaderValue) -> String {
    const SHOWN_MAX: usize = 80;
    value.as_bytes().escape_ascii().take(SHOWN_MAX).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn encoded(coding: Coding, body: &[u8]) -> Vec<u8> {
        let parts = coding.encode(Chunks::one(Bytes::copy_from_slice(body))).into_parts();
        parts.flat_map(|part| part.to_vec()).collect()
    }

    fn with(name: &http::HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let zeros = vec![0; 50_000_000];
        for coding in Coding::ALL {
            let bomb = encoded(coding, &zeros);
            assert!(bomb.len() < 1_000_000, "{coding:?}: {}", bomb.len());
            let refused = coding.decode(&bomb, 1000);
            assert!(matches!(refused, Err(CodingError::TooLarge { limit: 1000 })), "{coding:?}");
            assert_eq!(coding.decode(&bomb, zeros.len()).unwrap().len(), zeros.len());
            assert!(coding.decode(&bomb, zeros.len() - 1).is_err());
        }
    }

    #[test]
    fn a_window_that_http_does_not_allow_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        // Of a frame that told its size, no more than that size would be set aside.
        encoder.include_contentsize(false).unwrap();
        encoder.write_all(&[7; 100]).unwrap();
        let body = encoder.finish().unwrap();
        assert!(matches!(Coding::Zstd.decode(&body, 1000), Err(CodingError::Malformed { .. })));
    }

    #[test]
    fn what_is_cut_off_or_goes_on_is_refused() {
        for coding in Coding::ALL {
            let whole = encoded(coding, b"some text, some text, some text");
            for length in 0..whole.len() {
                let cut = coding.decode(&whole[..length], 1000);
                assert!(cut.is_err(), "{coding:?} {length} of {}: {cut:?}", whole.len());
            }
            let longer = [&whole[..], b"\x07"].concat();
            assert!(coding.decode(&longer, 1000).is_err(), "{coding:?}");
        }
    }

    #[test]
    fn a_bare_deflate_stream_is_read_too() {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"some text, some text").unwrap();
        let body = encoder.finish().unwrap();
        assert_eq!(Coding::Deflate.decode(&body, 100).unwrap(), b"some text, some text");
    }

    #[test]
    fn codings_are_listed_in_the_order_of_their_use() {
        let of = |values: &[&'static str]| Coding::of(&with(&CONTENT_ENCODING, values));
        assert_eq!(of(&[]), Ok(vec![]));
        assert_eq!(of(&["identity"]), Ok(vec![]));
        assert_eq!(of(&["GZIP"]), Ok(vec![Coding::Gzip]));
        assert_eq!(of(&["x-gzip, zstd", "deflate"]).unwrap().len(), 3);
        assert_eq!(
            of(&["gzip, br"]).unwrap_err().to_string(),
            "content encoding `gzip, br` is not supported: expected zstd, gzip, deflate",
        );
    }

    #[test]
    fn the_best_coding_is_the_clients_choice_then_ours() {
        for (accepted, expected) in [
            (&[][..], None),
            (&[""][..], None),
            (&["gzip"], Some(Coding::Gzip)),
            (&["br, deflate"], Some(Coding::Deflate)),
            (&["gzip, deflate, br, zstd"], Some(Coding::Zstd)),
            (&["gzip;q=0.5, deflate;q=0.8"], Some(Coding::Deflate)),
            (&["gzip;q=0"], None),
            (&["gzip; q=0.3, identity; q=0.9"], None),
            (&["*"], Some(Coding::Zstd)),
            (&["*;q=0.5, zstd;q=0"], Some(Coding::Gzip)),
            (&["identity"], None),
            (&["zstd;q=x, gzip;q=0.1"], Some(Coding::Gzip)),
            (&["gzip;q=0.2", "deflate"], Some(Coding::Deflate)),
        ] {
            let preferred = Coding::preferred(&with(&ACCEPT_ENCODING, accepted));
            assert_eq!(preferred, expected, "{accepted:?}");
        }
    }

    proptest! {
        #[test]
        fn any_body_comes_back(body in prop::collection::vec(any::<u8>(), 0..2000)) {
            for coding in Coding::ALL {
                prop_assert_eq!(&coding.decode(&encoded(coding, &body), 2000).unwrap(), &body);
            }
        }

        #[test]
        fn no_body_makes_decoding_fail_otherwise_than_by_an_error(
            body in prop::collection::vec(any::<u8>(), 0..200)
        ) {
            for coding in Coding::ALL {
                if let Ok(decoded) = coding.decode(&body, 1000) {
                    prop_assert!(decoded.len() <= 1000);
                }
            }
        }
    }
}
