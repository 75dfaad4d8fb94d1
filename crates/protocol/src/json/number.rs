//! Decimal numbers: read in one pass, rounded once.
//!
//! A number's digits are gathered while its grammar is checked. Most numbers then need one
//! division in 64-bit floating point, whose error is known; only where that error could decide
//! the result is the text looked at again. The bound is Clinger's ("How to read floating point
//! numbers accurately", 1990): powers of ten up to 10^22 are exact in 64 bits.

use std::cmp::Ordering;

/// Why a text is no number of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoNumber {
    /// It does not look like one.
    Other,
    /// It is cut off, at what this says.
    CutOff(&'static str),
}

/// A number as its text states it: mantissa · 10^exponent, and a sign.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Decimal<'a> {
    text: &'a [u8],
    is_negative: bool,
    /// All digits in sequence, as far as [`Self::is_whole_mantissa`] says.
    mantissa: u64,
    exponent: i32,
    /// Whether there are few enough digits that `mantissa` holds them all.
    is_whole_mantissa: bool,
    /// Whether there is neither a decimal point nor an exponent.
    is_integer: bool,
}

/// 10^0 to 10^22, which 64-bit floats hold exactly.
const POWERS_OF_TEN: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// How far, in units of the last place, [`Decimal::estimate`] may be from the number. Taking the
/// mantissa as a float and dividing each err by half a unit relative to what they work on, which
/// makes less than two units of the result.
const ESTIMATE_ERROR: u64 = 4;

impl<'a> Decimal<'a> {
    /// Digits that always fit the mantissa.
    const DIGITS_MAX: usize = 19;

    /// Reads the number with which `bytes` begins, as JSON spells numbers.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "called per number: its result stays in registers")]
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, NoNumber> {
        let is_negative = bytes.first() == Some(&b'-');
        let unsigned = &bytes[usize::from(is_negative)..];
        let [first @ b'0'..=b'9', after_first @ ..] = unsigned else {
            return Err(NoNumber::Other);
        };
        let mut mantissa = u64::from(first - b'0');
        let mut rest = after_first;
        if let [b'0'..=b'9', ..] = after_first {
            if *first == b'0' {
                return Err(NoNumber::Other);
            }
            rest = digits(after_first, &mut mantissa);
        }
        let whole = unsigned.len() - rest.len();
        let mut fraction = 0;
        let mut is_integer = true;
        if let [b'.', after @ ..] = rest {
            rest = digits(after, &mut mantissa);
            fraction = after.len() - rest.len();
            if fraction == 0 {
                return Err(NoNumber::CutOff("a number ends with its decimal point"));
            }
            is_integer = false;
        }
        let mut exponent = -i32::try_from(fraction).unwrap_or(i32::MAX);
        if let [b'e' | b'E', after @ ..] = rest {
            let (stated, behind) = stated_exponent(after)?;
            exponent = stated.saturating_add(exponent);
            rest = behind;
            is_integer = false;
        }
        let text = &bytes[..bytes.len() - rest.len()];
        let is_whole_mantissa =
            whole + fraction <= Self::DIGITS_MAX || significant_digits(text) <= Self::DIGITS_MAX;
        Ok(Self { text, is_negative, mantissa, exponent, is_whole_mantissa, is_integer })
    }

    /// The text.
    pub(crate) fn text(&self) -> &'a [u8] {
        self.text
    }

    /// Whether it is written with neither a decimal point nor an exponent.
    pub(crate) fn is_integer(&self) -> bool {
        self.is_integer
    }

    /// The value where it is written as an integer and fits.
    #[inline]
    pub(crate) fn to_integer<T: TryFrom<i128>>(self) -> Option<T> {
        if !self.is_integer {
            return None;
        }
        let magnitude = if self.is_whole_mantissa {
            i128::from(self.mantissa)
        } else {
            // Twenty digits may still be an unsigned integer of 64 bits.
            let digits = &self.text[usize::from(self.is_negative)..];
            i128::from(str::from_utf8(digits).ok()?.parse::<u64>().ok()?)
        };
        T::try_from(if self.is_negative { -magnitude } else { magnitude }).ok()
    }

    /// The nearest 64-bit float, ties to even; infinite where it is out of range.
    #[inline]
    pub(crate) fn to_f64(self) -> f64 {
        const EXACT_MAX: u64 = 1 << f64::MANTISSA_DIGITS;
        match self.estimate() {
            // One exact operand by another: rounded once.
            Some(value) if self.mantissa <= EXACT_MAX => self.signed(value),
            _ => self.parse(),
        }
    }

    /// The nearest 32-bit float, ties to even; infinite where it is out of range.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "called per number, which stays in registers")]
    #[expect(clippy::cast_possible_truncation, reason = "rounding is what the cast is for")]
    pub(crate) fn to_f32(self) -> f32 {
        if let Some(value) = self.estimate() {
            let bits = value.to_bits();
            let low = f64::from_bits(bits.saturating_sub(ESTIMATE_ERROR)) as f32;
            let high = f64::from_bits(bits + ESTIMATE_ERROR) as f32;
            // The number lies between two that round to one value: so does it.
            if low == high {
                return f32::from_bits(low.to_bits() | u32::from(self.is_negative) << 31);
            }
        }
        self.parse()
    }

    /// The bits of the nearest binary16, ties to even; infinite where it is out of range.
    pub(crate) fn to_f16_bits(self) -> u16 {
        self.to_bits16(&Format16 { fraction_bits: 10, quantum_min: -24, infinity: 0x7c00 })
    }

    /// The bits of the nearest bfloat16, ties to even; infinite where it is out of range.
    pub(crate) fn to_bf16_bits(self) -> u16 {
        self.to_bits16(&Format16 { fraction_bits: 7, quantum_min: -133, infinity: 0x7f80 })
    }

    fn to_bits16(self, format: &Format16) -> u16 {
        let sign = u16::from(self.is_negative) << 15;
        if let Some(value) = self.estimate() {
            let place = format.place(value);
            if place.remainder.abs_diff(place.half) > ESTIMATE_ERROR {
                return sign | format.bits(place.floor, place.remainder.cmp(&place.half));
            }
        }
        // Rounded once to 64 bits, the number is on the same side of a middle of two values of
        // 16 bits as its text, unless it is that middle.
        let value = self.parse::<f64>().abs();
        let place = format.place(value);
        let side = match place.remainder.cmp(&place.half) {
            Ordering::Equal if place.half > 0 => self.compare_magnitude(value),
            side => side,
        };
        sign | format.bits(place.floor, side)
    }

    /// About the number's magnitude: at most [`ESTIMATE_ERROR`] off.
    #[inline]
    fn estimate(&self) -> Option<f64> {
        let power = POWERS_OF_TEN.get(self.exponent.unsigned_abs() as usize)?;
        let mantissa = self.is_whole_mantissa.then_some(self.mantissa as f64)?;
        Some(if self.exponent <= 0 { mantissa / power } else { mantissa * power })
    }

    fn signed(self, magnitude: f64) -> f64 {
        if self.is_negative { -magnitude } else { magnitude }
    }

    /// The nearest float, by way of the text.
    #[cold]
    fn parse<T: fast_float2::FastFloat>(self) -> T {
        fast_float2::parse(self.text).expect("the number's grammar was checked when it was read")
    }

    /// How the number's magnitude compares to `value`, which is a middle of two 16-bit floats.
    #[cold]
    fn compare_magnitude(&self, value: f64) -> Ordering {
        // 2^-134, the smallest such middle, has 134 decimal places.
        let exact = format!("{value:.134}");
        let (number, middle) = (Digits::of(self.text), Digits::of(exact.as_bytes()));
        number.point.cmp(&middle.point).then_with(|| {
            let length = number.digits.len().max(middle.digits.len());
            let padded = |digits: &[u8], index: usize| digits.get(index).copied().unwrap_or(b'0');
            (0..length)
                .map(|i| padded(&number.digits, i).cmp(&padded(&middle.digits, i)))
                .find(|order| order.is_ne())
                .unwrap_or(Ordering::Equal)
        })
    }
}

/// A binary floating-point format of 16 bits.
struct Format16 {
    fraction_bits: u32,
    /// The exponent of the smallest step between two values.
    quantum_min: i32,
    infinity: u16,
}

/// Where a magnitude lies between two neighbours.
struct Place {
    /// The bits of the lower neighbour, counted on beyond the largest value.
    floor: u64,
    /// How far above it, in the same unit as `half`.
    remainder: u64,
    /// Half the way to the upper neighbour; 0 where the magnitude is infinite.
    half: u64,
}

impl Format16 {
    /// Where `value`, which is not negative, lies. The bits of such values count up in order.
    fn place(&self, value: f64) -> Place {
        const FRACTION_BITS: i32 = 52;
        if value.is_infinite() {
            return Place { floor: u64::from(self.infinity), remainder: 0, half: 0 };
        }
        let bits = value.to_bits();
        let exponent = i32::try_from(bits >> FRACTION_BITS).expect("eleven bits") - 1023;
        let hidden = u64::from(exponent > -1023) << FRACTION_BITS;
        let mantissa = bits & ((1 << FRACTION_BITS) - 1) | hidden;
        let quantum = (exponent - self.fraction_bits.cast_signed()).max(self.quantum_min);
        let shift = quantum - (exponent - FRACTION_BITS);
        // The mantissa has 53 bits: beyond this it is less than half of the smallest step.
        let shift = shift.clamp(0, 62).unsigned_abs();
        let steps = u64::from((quantum - self.quantum_min).unsigned_abs()) << self.fraction_bits;
        Place {
            floor: steps + (mantissa >> shift),
            remainder: mantissa & ((1 << shift) - 1),
            half: 1 << (shift - 1),
        }
    }

    /// The neighbour to which a magnitude on this side of the middle is rounded.
    fn bits(&self, floor: u64, side: Ordering) -> u16 {
        let up = match side {
            Ordering::Less => 0,
            Ordering::Equal => floor & 1,
            Ordering::Greater => 1,
        };
        u16::try_from(floor + up).unwrap_or(self.infinity).min(self.infinity)
    }
}

/// A number as its significant digits and the place of its point among them.
struct Digits {
    /// The first is not zero.
    digits: Vec<u8>,
    /// The number is `0.digits` · 10^point.
    point: i64,
}

impl Digits {
    fn of(text: &[u8]) -> Self {
        let mut parts = text.split(|byte| matches!(byte, b'e' | b'E'));
        let number = parts.next().unwrap_or_default();
        let stated = parts.next().and_then(|exponent| stated_exponent(exponent).ok());
        let stated = stated.map_or(0, |(exponent, _)| exponent);
        let whole = number.split(|&byte| byte == b'.').next().unwrap_or_default();
        let whole = whole.iter().filter(|byte| byte.is_ascii_digit()).count();
        let mut digits: Vec<u8> = number.iter().copied().filter(u8::is_ascii_digit).collect();
        let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
        digits.drain(..zeros);
        Self { digits, point: whole as i64 - zeros as i64 + i64::from(stated) }
    }
}

/// Appends the digits at the front of `text` to `value`, modulo 2^64, and gives what follows.
///
/// Of eight bytes the run of digits is found that they begin with, and its digits are joined in
/// pairs, fours and eights, each in one multiplication. How many digits there are decides no
/// branch: it could not be foreseen.
#[inline]
fn digits<'a>(mut text: &'a [u8], value: &mut u64) -> &'a [u8] {
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    while let Some(eight) = text.first_chunk::<8>() {
        let eight = u64::from_le_bytes(*eight);
        // A byte's high bit tells that it is no digit. A carry only reaches the bytes behind the
        // first of these.
        let above = eight.wrapping_add(0x4646_4646_4646_4646);
        let offsets = eight.wrapping_sub(0x3030_3030_3030_3030);
        let count = ((above | offsets) & HIGH_BITS).trailing_zeros() / 8;
        if count == 0 {
            return text;
        }
        // Zeros in front: the first byte is the lowest.
        let number = joined(offsets << (64 - 8 * count));
        *value = value.wrapping_mul(SMALL_POWERS[count as usize]).wrapping_add(number);
        text = &text[count as usize..];
        if count < 8 {
            return text;
        }
    }
    while let [byte, rest @ ..] = text
        && let digit @ 0..=9 = byte.wrapping_sub(b'0')
    {
        *value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
        text = rest;
    }
    text
}

/// 10^0 to 10^8.
const SMALL_POWERS: [u64; 9] =
    [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The number that eight digits make, one a byte, the first in the lowest.
#[inline]
fn joined(digits: u64) -> u64 {
    let pairs = digits.wrapping_mul(10).wrapping_add(digits >> 8) & 0x00ff_00ff_00ff_00ff;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff
}

/// The exponent at the front of `text`, which is what follows its letter, and the rest.
fn stated_exponent(text: &[u8]) -> Result<(i32, &[u8]), NoNumber> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        _ => (false, text),
    };
    let length = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    if length == 0 {
        return Err(NoNumber::CutOff("a number ends with its exponent's letter"));
    }
    let value = digits[..length].iter().fold(0i32, |value, digit| {
        value.saturating_mul(10).saturating_add(i32::from(digit - b'0'))
    });
    Ok((if is_negative { -value } else { value }, &digits[length..]))
}

/// Digits from the first that is not zero.
#[cold]
fn significant_digits(number: &[u8]) -> usize {
    let mantissa = number.split(|byte| matches!(byte, b'e' | b'E')).next().unwrap_or_default();
    let digits = mantissa.iter().filter(|byte| byte.is_ascii_digit());
    digits.skip_while(|&&digit| digit == b'0').count()
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Decimal<'_> {
        let decimal = Decimal::read(text.as_bytes()).unwrap();
        assert_eq!(decimal.text(), text.as_bytes());
        decimal
    }

    /// Texts of a middle of two values: exactly it, a little less, and a little more. The
    /// differences are beyond what 64 bits can tell.
    fn around(middle: f64) -> [(Ordering, String); 3] {
        let exact = format!("{middle:.1074}");
        let exact = exact.trim_end_matches('0').trim_end_matches('.').to_owned();
        let point = if exact.contains('.') { "" } else { "." };
        let above = format!("{exact}{point}00000000000000000000000000000001");
        // One less in the last digit that is not zero, and nines behind.
        let at = exact.rfind(|c: char| ('1'..='9').contains(&c)).unwrap();
        let less = char::from(exact.as_bytes()[at] - 1);
        let zeros = exact[at + 1..].replace('0', "9");
        let below = format!("{}{less}{zeros}{point}99999999999999999999999999999999", &exact[..at]);
        [(Ordering::Equal, exact), (Ordering::Less, below), (Ordering::Greater, above)]
    }

    fn check_every_middle(infinity: u16, value: impl Fn(u16) -> f64, read16: impl Fn(&str) -> u16) {
        for bits in 0..infinity {
            let text = value(bits).to_string();
            assert_eq!(read16(&text), bits, "{text}");
            assert_eq!(read16(&format!("-{text}")), bits | 0x8000, "-{text}");
            // Beyond the largest value lies what would be the next, were there one.
            let next = bits + 1;
            let step = if next == infinity {
                value(bits) - value(bits - 1)
            } else {
                value(next) - value(bits)
            };
            for (side, text) in around(value(bits) + step / 2.0) {
                let expected = match side {
                    Ordering::Less => bits,
                    Ordering::Equal => bits + (bits & 1),
                    Ordering::Greater => next,
                };
                assert_eq!(read16(&text), expected, "{side:?} the middle above {bits:#x}: {text}");
            }
        }
    }

    #[test]
    fn every_middle_of_two_fp16_values_rounds_as_it_should() {
        check_every_middle(0x7c00, |b| f16::from_bits(b).to_f64(), |t| read(t).to_f16_bits());
    }

    #[test]
    fn every_middle_of_two_bf16_values_rounds_as_it_should() {
        check_every_middle(0x7f80, |b| bf16::from_bits(b).to_f64(), |t| read(t).to_bf16_bits());
    }

    #[test]
    fn hard_cases_round_once() {
        for text in [
            // Middles of two floats, and next to them.
            "16777217",
            "16777217.0000000000000000000001",
            "16777219",
            "33554434.999999999999999",
            "9007199254740993",
            "9007199254740992.99999999999999999999999999",
            "9007199254740993.00000000000000000000000001",
            // Where two roundings differ from one.
            "1.00000017881393432617187499",
            "1.000000178813934326171875",
            "1.00000017881393432617187501",
            "0.50000008940696716308593750001",
            // The ends of the ranges, and what lies between them and nothing.
            "3.4028235677973366e38",
            "3.4028235677973365e38",
            "3.4028234663852886e+38",
            "1.1754943508222875e-38",
            "1.17549435e-38",
            "1.401298464324817e-45",
            "7.006492321624085e-46",
            "7.0064923216240853546186479164495e-46",
            "7.0064923216240853546186479164496e-46",
            "1.7976931348623157e308",
            "1.7976931348623159e308",
            "2.2250738585072011e-308",
            "2.2250738585072012e-308",
            "4.9e-324",
            "2.4703282292062327e-324",
            "2.4703282292062328e-324",
            "1e400",
            "1e-400",
            "1e99999999999999999999",
            "1e-99999999999999999999",
            // Many digits, and zeros that are none.
            "0",
            "-0",
            "-0.0",
            "0.0e999999999",
            "0.000000000000000000000000000000000000000000001",
            "100000000000000000000000000000000",
            "123456789012345678901234567890e-10",
            "18446744073709551615",
            "18446744073709551616",
            "0.1234567890123456789",
            "8.5",
            "1E5",
            "12e+3",
        ] {
            let decimal = read(text);
            assert_eq!(
                decimal.to_f32().to_bits(),
                text.parse::<f32>().unwrap().to_bits(),
                "{text}"
            );
            assert_eq!(
                decimal.to_f64().to_bits(),
                text.parse::<f64>().unwrap().to_bits(),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_number_of_json_is_refused() {
        for text in ["", "-", "+1", ".5", "01", "-01", "1.", "1.e5", "1e", "1e+", "e5", "NaN", "x"]
        {
            assert!(Decimal::read(text.as_bytes()).is_err(), "{text}");
        }
        for (text, read) in
            [("1.5]", "1.5"), ("0,", "0"), ("1e5e", "1e5"), ("12345678901x", "12345678901")]
        {
            assert_eq!(Decimal::read(text.as_bytes()).unwrap().text(), read.as_bytes());
        }
    }

    #[test]
    fn integers_are_exact_or_none() {
        assert_eq!(read("18446744073709551615").to_integer(), Some(u64::MAX));
        assert_eq!(read("18446744073709551616").to_integer::<u64>(), None);
        assert_eq!(read("-9223372036854775808").to_integer(), Some(i64::MIN));
        assert_eq!(read("-9223372036854775809").to_integer::<i64>(), None);
        assert_eq!(read("-0").to_integer(), Some(0u8));
        assert_eq!(read("-1").to_integer::<u8>(), None);
        assert_eq!(read("1.0").to_integer::<i64>(), None);
        assert_eq!(read("1e2").to_integer::<i64>(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn decimal_texts_round_as_the_standard_library_rounds_them(
            text in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?"
        ) {
            let decimal = read(&text);
            prop_assert_eq!(decimal.to_f32().to_bits(), text.parse::<f32>().unwrap().to_bits());
            prop_assert_eq!(decimal.to_f64().to_bits(), text.parse::<f64>().unwrap().to_bits());
        }

        #[test]
        fn middles_of_two_fp32_values_round_as_they_should(bits in 0u32..0x7f7f_ffff) {
            let (low, high) = (f32::from_bits(bits), f32::from_bits(bits + 1));
            let even = if bits & 1 == 0 { low } else { high };
            for (side, text) in around((f64::from(low) + f64::from(high)) / 2.0) {
                let expected = match side {
                    Ordering::Less => low,
                    Ordering::Equal => even,
                    Ordering::Greater => high,
                };
                prop_assert_eq!(read(&text).to_f32(), expected, "{} {}", side as i8, text);
            }
        }

        #[test]
        fn every_float_reads_back_from_its_shortest_text(single in any::<u32>(), double in any::<u64>()) {
            let (single, double) = (f32::from_bits(single), f64::from_bits(double));
            if single.is_finite() {
                let text = serde_json::to_string(&single).unwrap();
                prop_assert_eq!(read(&text).to_f32().to_bits(), single.to_bits());
                let widened = serde_json::to_string(&f64::from(single)).unwrap();
                prop_assert_eq!(read(&widened).to_f32().to_bits(), single.to_bits());
            }
            if double.is_finite() {
                let text = serde_json::to_string(&double).unwrap();
                prop_assert_eq!(read(&text).to_f64().to_bits(), double.to_bits());
            }
        }
    }
}
