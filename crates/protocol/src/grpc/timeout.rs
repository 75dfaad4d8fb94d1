//! The `grpc-timeout` header.

use std::time::Duration;

/// The time in a `grpc-timeout` header: at most eight digits and a unit (`100m` is 100 ms).
/// `None` for anything else.
pub fn parse_timeout(text: &str) -> Option<Duration> {
    const DIGITS_MAX: usize = 8;
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let fits = (1..=DIGITS_MAX).contains(&digits.len());
    if !fits || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match &text[digits.len()..] {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, expected) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("30S", Some(Duration::from_secs(30))),
            ("250m", Some(Duration::from_millis(250))),
            ("1500u", Some(Duration::from_micros(1500))),
            ("0n", Some(Duration::ZERO)),
            ("100000000n", None),
            ("5", None),
            ("m", None),
            ("", None),
            ("-1S", None),
            ("1.5S", None),
            ("1 S", None),
            ("1SS", None),
            ("1µ", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text}");
        }
    }
}
