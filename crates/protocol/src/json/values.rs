//! Arrays of values, flat or nested, decoded straight into a tensor's bytes.

use half::{bf16, f16};
use inferring_types::{DataType, Shape};

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
    pub(crate) fn read(cursor: &mut Cursor<'_>, datatype: DataType) -> Result<Self, JsonError> {
        match datatype {
            DataType::Bool => Reader::run(cursor, |c, data| {
                let value = c.boolean("true or false")?;
                data.push(u8::from(value));
                Ok(())
            }),
            DataType::Uint8 => integers(cursor, u8::to_le_bytes),
            DataType::Uint16 => integers(cursor, u16::to_le_bytes),
            DataType::Uint32 => integers(cursor, u32::to_le_bytes),
            DataType::Uint64 => integers(cursor, u64::to_le_bytes),
            DataType::Int8 => integers(cursor, i8::to_le_bytes),
            DataType::Int16 => integers(cursor, i16::to_le_bytes),
            DataType::Int32 => integers(cursor, i32::to_le_bytes),
            DataType::Int64 => integers(cursor, i64::to_le_bytes),
            DataType::Fp16 => floats(cursor, "FP16", |v: f64| {
                let value = f16::from_f64(v);
                value.is_finite().then(|| value.to_le_bytes())
            }),
            DataType::Bf16 => floats(cursor, "BF16", |v: f64| {
                let value = bf16::from_f64(v);
                value.is_finite().then(|| value.to_le_bytes())
            }),
            DataType::Fp32 => {
                floats(cursor, "FP32", |v: f32| v.is_finite().then(|| v.to_le_bytes()))
            }
            DataType::Fp64 => {
                floats(cursor, "FP64", |v: f64| v.is_finite().then(|| v.to_le_bytes()))
            }
            DataType::Bytes => Reader::run(cursor, |c, data| {
                let text = c.string("a string")?;
                let length = u32::try_from(text.len()).map_err(|_| c.error("string too long"))?;
                data.extend_from_slice(&length.to_le_bytes());
                data.extend_from_slice(text.as_bytes());
                Ok(())
            }),
        }
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

fn integers<T: std::str::FromStr, const N: usize>(
    cursor: &mut Cursor<'_>,
    to_bytes: impl Fn(T) -> [u8; N],
) -> Result<Values, JsonError> {
    Reader::run(cursor, |c, data| {
        let start = c.clone();
        let text = c.number()?;
        let Some(value) = str::from_utf8(text).ok().and_then(|text| text.parse().ok()) else {
            let (range, text) = (std::any::type_name::<T>(), text.escape_ascii());
            return Err(start.error(format!("expected an integer ({range}), got {text}")));
        };
        data.extend_from_slice(&to_bytes(value));
        Ok(())
    })
}

fn floats<T: fast_float2::FastFloat, const N: usize>(
    cursor: &mut Cursor<'_>,
    name: &'static str,
    to_bytes: impl Fn(T) -> Option<[u8; N]>,
) -> Result<Values, JsonError> {
    Reader::run(cursor, |c, data| {
        let start = c.clone();
        let text = c.number()?;
        let value = fast_float2::parse(text).expect("the cursor checked the number's grammar");
        let Some(bytes) = to_bytes(value) else {
            return Err(start.error(format!("{} does not fit {name}", text.escape_ascii())));
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
    /// The depth at which elements stand, once one has been seen.
    element_depth: Option<usize>,
}

impl<F> Reader<F>
where
    F: FnMut(&mut Cursor<'_>, &mut Vec<u8>) -> Result<(), JsonError>,
{
    /// A tensor of more dimensions is refused.
    const RANK_MAX: usize = 16;

    fn run(cursor: &mut Cursor<'_>, element: F) -> Result<Values, JsonError> {
        let mut reader = Self {
            element,
            data: Vec::new(),
            elements: 0,
            lengths: Vec::new(),
            element_depth: None,
        };
        reader.value(cursor, 0)?;
        let nesting = Shape::new(reader.lengths.iter().map(|length| length.unwrap_or(0)));
        Ok(Values { data: reader.data, elements: reader.elements, nesting })
    }

    fn value(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), JsonError> {
        if cursor.peek() == Some(b'[') {
            return self.nested(cursor, depth);
        }
        if *self.element_depth.get_or_insert(depth) != depth {
            return Err(cursor.error("values stand at different depths of the array"));
        }
        self.elements += 1;
        (self.element)(cursor, &mut self.data)
    }

    fn nested(&mut self, cursor: &mut Cursor<'_>, depth: usize) -> Result<(), JsonError> {
        if depth >= Self::RANK_MAX {
            return Err(cursor.error(format!("nested deeper than {} levels", Self::RANK_MAX)));
        }
        if self.element_depth.is_some_and(|element_depth| element_depth <= depth) {
            return Err(cursor.error("values stand at different depths of the array"));
        }
        if self.lengths.len() <= depth {
            self.lengths.push(None);
        }
        let mut length = 0u64;
        cursor.array("an array", |cursor| {
            length += 1;
            self.value(cursor, depth + 1)
        })?;
        match self.lengths[depth].replace(length) {
            Some(first) if first != length => {
                Err(cursor
                    .error(format!("arrays at one depth differ in length: {first} and {length}")))
            }
            _ => Ok(()),
        }
    }
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
            ("[256]", DataType::Uint8, "expected an integer (u8), got 256"),
            ("[1.5]", DataType::Int64, "expected an integer (i64), got 1.5"),
            ("[\"a\"]", DataType::Fp32, "expected a number, got a string"),
            ("[null]", DataType::Fp32, "expected a number, got null"),
            ("[NaN]", DataType::Fp32, "expected a number, got NaN, which JSON does not have"),
            ("[1]", DataType::Bool, "expected true or false, got a number"),
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

    proptest! {
        #[test]
        fn every_f32_reads_back_bit_for_bit(bits in prop::collection::vec(any::<u32>(), 1..50)) {
            let floats: Vec<f32> =
                bits.into_iter().map(f32::from_bits).filter(|v| v.is_finite()).collect();
            let text = serde_json::to_string(&floats).unwrap();
            let expected: Vec<u8> = floats.iter().flat_map(|v| v.to_le_bytes()).collect();
            prop_assert_eq!(read(&text, DataType::Fp32).unwrap().data, expected);
        }

        #[test]
        fn decimal_text_rounds_once(mantissa in any::<u64>(), exponent in -60i32..30) {
            let text = format!("{mantissa}e{exponent}");
            if let Ok(values) = read(&text, DataType::Fp32) {
                prop_assert_eq!(values.data, text.parse::<f32>().unwrap().to_le_bytes());
            }
        }
    }
}
