//! Arrays of values, flat or nested, decoded straight into a tensor's bytes.

use half::{bf16, f16};
use inferring_types::{DataType, Shape};

use super::counted;
use super::number::Decimal;
use super::reader::{Cursor, JsonError};

/// The elements of an array, as a tensor holds them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Values {
    /// Little-endian, row-major.
    pub(crate) data: Vec<u8>,
    /// How many elements there are.
    pub(crate) elements: u64,
    /// The shape that the nesting tells; rank 1 for a flat array.
    pub(crate) nesting: Shape,
}

impl Values {
    /// Reads the array (or, for a scalar, the single value) that comes next.
    ///
    /// Numbers are rounded once, ties to even; NaN and infinities may stand among floats.
    /// Integers are written as such: `1.0` and `1e2` are none. Booleans are `true` and `false`.
    pub(crate) fn read(cursor: &mut Cursor<'_>, datatype: DataType) -> Result<Self, JsonError> {
        Self::read_expecting(cursor, datatype, 0)
    }

    /// The same where so many elements are expected: memory is set aside for them, as far as the
    /// text is long enough to hold them.
    pub(crate) fn read_expecting(
        cursor: &mut Cursor<'_>,
        datatype: DataType,
        elements: u64,
    ) -> Result<Self, JsonError> {
        // An element takes at least one byte, and one to part it from the next.
        let possible = (cursor.remaining() / 2 + 1) as u64;
        let count = usize::try_from(elements.min(possible)).unwrap_or(0);
        let data = Vec::with_capacity(count * datatype.element_size().unwrap_or(8));
        match datatype {
            DataType::Bool => Reader::run(cursor, data, |c, data| {
                let value = c.boolean("true or false")?;
                data.push(u8::from(value));
                Ok(())
            }),
            DataType::Uint8 => integers(cursor, data, datatype, u8::to_le_bytes),
            DataType::Uint16 => integers(cursor, data, datatype, u16::to_le_bytes),
            DataType::Uint32 => integers(cursor, data, datatype, u32::to_le_bytes),
            DataType::Uint64 => integers(cursor, data, datatype, u64::to_le_bytes),
            DataType::Int8 => integers(cursor, data, datatype, i8::to_le_bytes),
            DataType::Int16 => integers(cursor, data, datatype, i16::to_le_bytes),
            DataType::Int32 => integers(cursor, data, datatype, i32::to_le_bytes),
            DataType::Int64 => integers(cursor, data, datatype, i64::to_le_bytes),
            DataType::Fp16 => {
                let finite = |value: f16| value.is_finite().then(|| value.to_le_bytes());
                let round = |number: Decimal<'_>| finite(f16::from_bits(number.to_f16_bits()));
                floats(cursor, data, datatype, round, |v| f16::from_f64(v).to_le_bytes())
            }
            DataType::Bf16 => {
                let finite = |value: bf16| value.is_finite().then(|| value.to_le_bytes());
                let round = |number: Decimal<'_>| finite(bf16::from_bits(number.to_bf16_bits()));
                floats(cursor, data, datatype, round, |v| bf16::from_f64(v).to_le_bytes())
            }
            DataType::Fp32 => {
                let finite = |value: f32| value.is_finite().then(|| value.to_le_bytes());
                let narrowed = |value: f64| (value as f32).to_le_bytes();
                floats(cursor, data, datatype, |number| finite(number.to_f32()), narrowed)
            }
            DataType::Fp64 => {
                let finite = |value: f64| value.is_finite().then(|| value.to_le_bytes());
                floats(cursor, data, datatype, |number| finite(number.to_f64()), f64::to_le_bytes)
            }
            DataType::Bytes => Reader::run(cursor, data, |c, data| {
                let text = c.string("a string")?;
                let length = u32::try_from(text.len()).map_err(|_| c.misfit("string too long"))?;
                data.extend_from_slice(&length.to_le_bytes());
                data.extend_from_slice(text.as_bytes());
                Ok(())
            }),
        }
    }

    /// Whether the values may fill `shape`: flat, or nested as the shape says.
    pub(crate) fn check_shape(&self, shape: &Shape) -> Result<(), String> {
        if self.nesting.rank() > 1 && self.nesting != *shape {
            return Err(format!("`data` is nested as {}, but the shape is {shape}", self.nesting));
        }
        if shape.elements() != Some(self.elements) {
            let holds = match shape.elements() {
                Some(elements) => counted(elements, "element"),
                None => "more elements than can be addressed".to_owned(),
            };
            let count = counted(self.elements, "element");
            return Err(format!("`data` has {count}, but shape {shape} holds {holds}"));
        }
        Ok(())
    }
}

/// Reads the array of sizes that comes next.
pub(crate) fn read_shape(cursor: &mut Cursor<'_>) -> Result<Shape, JsonError> {
    let mut dimensions = Vec::new();
    cursor.array("an array of sizes", |cursor| {
        dimensions.push(cursor.unsigned("a size")?);
        Ok(())
    })?;
    Ok(Shape::new(dimensions))
}

fn integers<T: TryFrom<i128>, const N: usize>(
    cursor: &mut Cursor<'_>,
    data: Vec<u8>,
    datatype: DataType,
    to_bytes: impl Fn(T) -> [u8; N],
) -> Result<Values, JsonError> {
    Reader::run(cursor, data, |c, data| {
        let number = c.number()?;
        let Some(value) = number.to_integer() else {
            return Err(no_integer(c, &number, datatype));
        };
        data.extend_from_slice(&to_bytes(value));
        Ok(())
    })
}

#[cold]
fn too_large(cursor: &Cursor<'_>, number: &Decimal<'_>, datatype: DataType) -> JsonError {
    let text = number.text().escape_ascii();
    cursor.misfit_before(number.text(), format!("{text} does not fit {datatype}"))
}

#[cold]
fn no_integer(cursor: &Cursor<'_>, number: &Decimal<'_>, datatype: DataType) -> JsonError {
    let text = number.text().escape_ascii();
    if !number.is_integer() {
        let problem =
            format!("expected an integer of {datatype}, without point or exponent, got {text}");
        return cursor.misfit_before(number.text(), problem);
    }
    let bits = 8 * datatype.element_size().expect("an integer has a size");
    let is_signed =
        matches!(datatype, DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64);
    let (low, high) = if is_signed {
        (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
    } else {
        (0, (1i128 << bits) - 1)
    };
    let problem = format!("{text} does not fit {datatype}, which holds {low} to {high}");
    cursor.misfit_before(number.text(), problem)
}

fn floats<const N: usize>(
    cursor: &mut Cursor<'_>,
    data: Vec<u8>,
    datatype: DataType,
    round: impl Fn(Decimal<'_>) -> Option<[u8; N]>,
    non_finite: impl Fn(f64) -> [u8; N],
) -> Result<Values, JsonError> {
    Reader::run(cursor, data, |c, data| {
        let bytes = match c.number() {
            Ok(number) => round(number).ok_or_else(|| too_large(c, &number, datatype))?,
            Err(error) => non_finite(c.non_finite().ok_or(error)?),
        };
        data.extend_from_slice(&bytes);
        Ok(())
    })
}

/// Walks nested arrays and holds every level to one length.
struct Reader<F> {
    element: F,
    data: Vec<u8>,
    elements: u64,
    /// The length of the arrays at each depth, once the first of them has ended.
    lengths: Vec<Option<u64>>,
    /// The depth of the arrays that hold elements, once one has been seen.
    element_depth: Option<usize>,
}

impl<F> Reader<F>
where
    F: FnMut(&mut Cursor<'_>, &mut Vec<u8>) -> Result<(), JsonError>,
{
    /// A tensor of more dimensions is refused.
    const RANK_MAX: usize = 16;

    const MIXED: &'static str = "values stand at different depths of the array";

    fn run(cursor: &mut Cursor<'_>, data: Vec<u8>, element: F) -> Result<Values, JsonError> {
        let mut reader =
            Self { element, data, elements: 0, lengths: Vec::new(), element_depth: None };
        if cursor.accept(b'[') {
            reader.array(cursor, 0)?;
        } else {
            reader.elements(cursor, Place::Alone)?;
        }
        let nesting = Shape::new(reader.lengths.iter().map(|length| length.unwrap_or(0)));
        Ok(Values { data: reader.data, elements: reader.elements, nesting })
    }

    /// Reads an array whose bracket was passed; its items stand at `depth` + 1.
    fn array(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), JsonError> {
        if depth >= Self::RANK_MAX {
            return Err(cursor.error(format!("nested deeper than {} levels", Self::RANK_MAX)));
        }
        if self.element_depth.is_some_and(|element_depth| element_depth < depth) {
            return Err(cursor.misfit(Self::MIXED));
        }
        if self.lengths.len() <= depth {
            self.lengths.push(None);
        }
        let length = match cursor.peek() {
            Some(b']') => {
                cursor.accept(b']');
                0
            }
            Some(b'[') => self.arrays(cursor, depth + 1)?,
            _ => {
                if *self.element_depth.get_or_insert(depth) != depth {
                    return Err(cursor.misfit(Self::MIXED));
                }
                self.elements(cursor, Place::InArray)?
            }
        };
        match self.lengths[depth].replace(length) {
            Some(first) if first != length => Err(cursor
                .misfit(format!("arrays at one depth differ in length: {first} and {length}"))),
            _ => Ok(()),
        }
    }

    /// Reads arrays up to the bracket behind the last, and tells how many there were.
    fn arrays(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<u64, JsonError> {
        let mut length = 0;
        loop {
            if !cursor.accept(b'[') {
                return Err(cursor.misfit(Self::MIXED));
            }
            self.array(cursor, depth)?;
            length += 1;
            if !cursor.accept(b',') {
                cursor.expect(b']', "`,` or `]`")?;
                return Ok(length);
            }
        }
    }

    /// Reads elements and tells how many there were: the only one, or all up to the bracket
    /// behind the last. They are read at one place, so that this becomes one loop.
    fn elements(&mut self, cursor: &mut Cursor<'_>, place: Place) -> Result<u64, JsonError> {
        let mut length = 0;
        loop {
            if let Err(error) = (self.element)(cursor, &mut self.data) {
                let is_mixed = length > 0 && cursor.peek() == Some(b'[');
                return Err(if is_mixed { cursor.misfit(Self::MIXED) } else { error });
            }
            length += 1;
            if place == Place::InArray && cursor.accept(b',') {
                continue;
            }
            if place == Place::InArray {
                cursor.expect(b']', "`,` or `]`")?;
            }
            self.elements += length;
            return Ok(length);
        }
    }
}

/// Where an element stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// For itself: a scalar.
    Alone,
    /// In an array.
    InArray,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str, datatype: DataType) -> Result<Values, String> {
        let mut cursor = Cursor::new(text.as_bytes());
        let values = Values::read(&mut cursor, datatype).map_err(|e| e.to_string())?;
        cursor.finish().map_err(|e| e.to_string())?;
        Ok(values)
    }

    #[test]
    fn nesting_tells_the_shape() {
        for (text, shape) in [
            ("[1,2,3]", Shape::from([3])),
            ("[[1,2],[3,4],[5,6]]", Shape::from([3, 2])),
            ("[[[1]]]", Shape::from([1, 1, 1])),
            ("7", Shape::default()),
            ("[]", Shape::from([0])),
            ("[[],[]]", Shape::from([2, 0])),
        ] {
            assert_eq!(read(text, DataType::Fp32).unwrap().nesting, shape, "{text}");
        }
    }

    #[test]
    fn ragged_and_mixed_arrays_are_refused() {
        for text in ["[[1,2],[3]]", "[[1],2]", "[1,[2]]", "[[[1]],[2]]", "[[],[1]]"] {
            assert!(read(text, DataType::Fp32).is_err(), "{text}");
        }
        assert!(read(&"[".repeat(100_000), DataType::Fp32).is_err());
    }

    #[test]
    fn values_out_of_range_or_of_another_type_are_refused() {
        for (text, datatype, problem) in [
            ("[1e39]", DataType::Fp32, "1e39 does not fit FP32"),
            ("[65520]", DataType::Fp16, "65520 does not fit FP16"),
            ("[256]", DataType::Uint8, "256 does not fit UINT8, which holds 0 to 255"),
            ("[-1]", DataType::Uint8, "-1 does not fit UINT8, which holds 0 to 255"),
            ("[128]", DataType::Int8, "128 does not fit INT8, which holds -128 to 127"),
            (
                "[18446744073709551616]",
                DataType::Uint64,
                "18446744073709551616 does not fit UINT64, which holds 0 to 18446744073709551615",
            ),
            (
                "[1.0]",
                DataType::Int64,
                "expected an integer of INT64, without point or exponent, got 1.0",
            ),
            (
                "[1e2]",
                DataType::Uint16,
                "expected an integer of UINT16, without point or exponent, got 1e2",
            ),
            ("[\"a\"]", DataType::Fp32, "expected a number, got a string"),
            ("[null]", DataType::Fp32, "expected a number, got null"),
            ("[NaN]", DataType::Int8, "expected a number, got NaN, which JSON does not have"),
            ("[nan]", DataType::Fp32, "expected a number, got NaN, which JSON does not have"),
            ("[1.]", DataType::Fp32, "a number ends with its decimal point"),
            ("[1]", DataType::Bool, "expected true or false, got a number"),
            ("[1]", DataType::Bytes, "expected a string, got a number"),
        ] {
            let error = read(text, datatype).unwrap_err();
            assert!(error.ends_with(problem), "{text}: {error}");
        }
    }

    #[test]
    fn strings_become_length_prefixed_bytes() {
        let values = read(r#"["ab",""]"#, DataType::Bytes).unwrap();
        assert_eq!(values.data, b"\x02\0\0\0ab\0\0\0\0");
    }

    #[test]
    fn strings_may_have_escapes_and_surrogates_in_pairs() {
        let values = read(r#"["\u00e9\n\"", "\ud83d\ude00", "\u0000"]"#, DataType::Bytes).unwrap();
        assert_eq!(values.data, "\x04\0\0\0é\n\"\x04\0\0\0😀\x01\0\0\0\0".as_bytes());
        for text in [r#"["\ud83d"]"#, r#"["\ude00\ud83d"]"#, r#"["\x"]"#, r#"["\u12"]"#, r#"["a"#] {
            assert!(read(text, DataType::Bytes).is_err(), "{text}");
        }
        let mut cursor = Cursor::new(b"[\"\xff\"]");
        assert!(Values::read(&mut cursor, DataType::Bytes).is_err());
    }

    #[test]
    fn nan_and_infinities_stand_among_floats() {
        let text = "[NaN, -Infinity,1,Infinity]";
        let single = [f32::NAN, f32::NEG_INFINITY, 1.0, f32::INFINITY];
        let expected: Vec<u8> = single.into_iter().flat_map(f32::to_le_bytes).collect();
        assert_eq!(read(text, DataType::Fp32).unwrap().data, expected);
        let double = single.map(f64::from);
        let expected: Vec<u8> = double.into_iter().flat_map(f64::to_le_bytes).collect();
        assert_eq!(read(text, DataType::Fp64).unwrap().data, expected);
        let expected = [0x7e00, 0xfc00, 0x3c00, 0x7c00].map(u16::to_le_bytes).concat();
        assert_eq!(read(text, DataType::Fp16).unwrap().data, expected);
        let expected = [0x7fc0, 0xff80, 0x3f80, 0x7f80].map(u16::to_le_bytes).concat();
        assert_eq!(read(text, DataType::Bf16).unwrap().data, expected);
    }

    #[test]
    fn values_are_held_against_a_shape() {
        for (text, shape, problem) in [
            ("[1,2,3,4]", [2, 2], None),
            ("[[1,2],[3,4]]", [2, 2], None),
            ("[[1,2],[3,4]]", [4, 1], Some("`data` is nested as [2,2], but the shape is [4,1]")),
            ("[1,2,3]", [2, 2], Some("`data` has 3 elements, but shape [2,2] holds 4 elements")),
            ("[1]", [2, 2], Some("`data` has 1 element, but shape [2,2] holds 4 elements")),
            (
                "[1]",
                [1 << 40, 1 << 40],
                Some(
                    "`data` has 1 element, but shape [1099511627776,1099511627776] holds more \
                     elements than can be addressed",
                ),
            ),
            ("[]", [0, 7], None),
            ("[[]]", [1, 0], None),
            ("[[]]", [0, 1], Some("`data` is nested as [1,0], but the shape is [0,1]")),
        ] {
            let values = read(text, DataType::Fp32).unwrap();
            assert_eq!(values.check_shape(&shape.into()).err().as_deref(), problem, "{text}");
        }
    }

    #[test]
    fn memory_is_set_aside_for_no_more_than_the_text_can_hold() {
        let mut cursor = Cursor::new(b"[1,2]");
        let values = Values::read_expecting(&mut cursor, DataType::Fp64, u64::MAX).unwrap();
        assert!(values.data.capacity() <= 32, "{}", values.data.capacity());
    }

    proptest! {
        #[test]
        fn every_f32_reads_back_bit_for_bit(bits in prop::collection::vec(any::<u32>(), 1..50)) {
            let floats: Vec<f32> =
                bits.into_iter().map(f32::from_bits).filter(|v| v.is_finite()).collect();
            let text = serde_json::to_string(&floats).unwrap();
            let expected: Vec<u8> = floats.iter().flat_map(|v| v.to_le_bytes()).collect();
            prop_assert_eq!(read(&text, DataType::Fp32).unwrap().data, expected);
        }
    }
}
