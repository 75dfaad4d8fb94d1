//! Outputs that the engine writes where the answer is to lie.
//!
//! By itself the engine writes an output into memory of its own, from which it is copied; a large
//! one then exists twice, and the engine keeps its part for the next run. Where the shape of an
//! output is known before the run it is given the memory of the answer instead.
//!
//! The shape is known by what the model declares: sizes, and symbols that its inputs have too.
//! Nobody checks such declarations, so none is trusted before a run has kept to it, and one that
//! was broken is not used again. The engine holds the shape that it was given against the one that
//! an operator makes and fails where they differ: then the run is made again without. And there
//! are graphs whose output is written by no operator, such as one that is an input too; a mark in
//! the memory tells whether anything was written.
#![expect(unsafe_code, reason = "memory that the engine fills; every block says why it is sound")]

use std::alloc::{Layout, alloc, dealloc};
use std::hash::{BuildHasher as _, RandomState};
use std::ptr::NonNull;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use inferring_types::{DataType, Dimension, Shape, Tensor, TensorSpec};
use ort::memory::MemoryInfo;
use ort::sys;

use super::tensor::Value;
use crate::ExecuteError;

/// How many bytes an output must have to be worth it. A run of one cheap operator took 2.2 µs of CPU
/// time either way with an output of 4 KiB, 4.8 and 3.2 µs with one of 32 KiB, 23 and 17 µs for each
/// of four rows of 256 KiB; and the peak memory of a process with outputs of 16 MiB went from 223 to
/// 103 MiB.
const WORTH_IT: usize = 16 << 10;

/// As the engine aligns what it allocates itself.
const ALIGNMENT: usize = 64;

/// How the shape of one output follows from the shapes of the inputs.
#[derive(Debug)]
pub(super) struct Destination {
    datatype: DataType,
    element_size: usize,
    sizes: Vec<Size>,
    trust: AtomicU8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Fixed(u64),
    OfInput { input: usize, axis: usize },
}

/// No run has told yet whether the declaration holds.
const UNTRIED: u8 = 0;
/// A run kept to it.
const TRUSTED: u8 = 1;
/// A run did not.
const BROKEN: u8 = 2;

impl Destination {
    /// The destination of an output, where its shape follows from those of the inputs.
    pub(super) fn of(output: &TensorSpec, inputs: &[TensorSpec]) -> Option<Self> {
        let element_size = output.datatype.element_size()?;
        if !output.shape.is_ranked() {
            return None;
        }
        let size = |dimension: &Dimension| match dimension {
            Dimension::Fixed(size) => Some(Size::Fixed(*size)),
            Dimension::Dynamic(None) => None,
            symbol @ Dimension::Dynamic(Some(_)) => {
                inputs.iter().enumerate().find_map(|(input, spec)| {
                    let axis = spec.shape.dimensions().iter().position(|other| other == symbol)?;
                    Some(Size::OfInput { input, axis })
                })
            }
        };
        let sizes = output.shape.dimensions().iter().map(size).collect::<Option<Vec<_>>>()?;
        let datatype = output.datatype;
        Some(Self { datatype, element_size, sizes, trust: AtomicU8::new(UNTRIED) })
    }

    /// Memory for the output of a run with these inputs, where that is known to fit and large
    /// enough to be worth it. Where there is no such memory left, the engine may say so.
    pub(super) fn room(&self, inputs: &[Tensor], memory: &MemoryInfo<'_>) -> Option<Room> {
        let buffer = Buffer::new(self.worthy_length(inputs)?)?;
        Room::new(self.datatype, self.shape(inputs), buffer, memory).ok()
    }

    /// Learns from the shape that the output of a run with these inputs had, when the engine was
    /// free to choose it.
    pub(super) fn observe(&self, inputs: &[Tensor], actual: &Shape) {
        if self.trust.load(Ordering::Relaxed) == UNTRIED {
            let found = if self.foretells(inputs, actual) { TRUSTED } else { BROKEN };
            // Another thread may have found it broken in between, and knows better.
            let _ =
                self.trust.compare_exchange(UNTRIED, found, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Never uses it again.
    pub(super) fn distrust(&self) {
        self.trust.store(BROKEN, Ordering::Relaxed);
    }

    fn sizes(&self, inputs: &[Tensor]) -> impl Iterator<Item = u64> {
        self.sizes.iter().map(|size| match *size {
            Size::Fixed(size) => size,
            Size::OfInput { input, axis } => inputs[input].shape().dimensions()[axis],
        })
    }

    /// Whether the output of a run with these inputs was to have this shape.
    pub(super) fn foretells(&self, inputs: &[Tensor], actual: &Shape) -> bool {
        self.shape(inputs) == *actual
    }

    fn shape(&self, inputs: &[Tensor]) -> Shape {
        Shape::new(self.sizes(inputs))
    }

    /// Its length in bytes, where that is known and large enough.
    fn worthy_length(&self, inputs: &[Tensor]) -> Option<usize> {
        let is_trusted = self.trust.load(Ordering::Relaxed) == TRUSTED;
        let length = is_trusted.then(|| self.length(inputs)).flatten();
        length.filter(|length| *length >= WORTH_IT)
    }

    /// In bytes.
    fn length(&self, inputs: &[Tensor]) -> Option<usize> {
        self.sizes(inputs).try_fold(self.element_size, |length, size| {
            length.checked_mul(usize::try_from(size).ok()?)
        })
    }
}

/// Memory that an output is to be written into, as the engine takes it.
pub(super) struct Room {
    // Before the memory that it points into: fields are dropped in this order.
    value: Value,
    buffer: Buffer,
    datatype: DataType,
    shape: Shape,
}

impl Room {
    fn new(
        datatype: DataType,
        shape: Shape,
        mut buffer: Buffer,
        memory: &MemoryInfo<'_>,
    ) -> Result<Self, ExecuteError> {
        buffer.mark();
        // SAFETY: the buffer has as many bytes as the shape has elements of that datatype, is
        // aligned for any of them, belongs to nobody else, and is dropped after the value.
        let value =
            unsafe { Value::over(datatype, &shape, buffer.start.as_ptr(), buffer.length, memory) };
        Ok(Self { value: value?, buffer, datatype, shape })
    }

    /// The engine's pointer, valid for as long as `self`.
    pub(super) fn as_ptr(&self) -> *mut sys::OrtValue {
        self.value.as_ptr().cast_mut()
    }

    /// The output that a successful run has written; `None` where it has written nothing here.
    pub(super) fn into_tensor(self) -> Option<Tensor> {
        let Self { value, buffer, datatype, shape } = self;
        drop(value);
        if buffer.is_marked() {
            return None;
        }
        let data = Bytes::from_owner(Written(buffer));
        Some(Tensor::new(datatype, shape, data).expect("the memory was made for that shape"))
    }
}

/// Memory of our own that nothing was written to yet, but a mark at its end.
struct Buffer {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: it is the only owner of the memory, which any thread may read, write and free.
unsafe impl Send for Buffer {}
// SAFETY: behind a shared reference it is only read.
unsafe impl Sync for Buffer {}

/// What no output ends with: 16 bytes that are drawn once in the life of a process.
static MARK: LazyLock<[u8; 16]> = LazyLock::new(|| {
    let random = RandomState::new();
    let [first, second] = [1_u8, 2].map(|seed| random.hash_one(seed).to_ne_bytes());
    let mut mark = [0; 16];
    mark[..8].copy_from_slice(&first);
    mark[8..].copy_from_slice(&second);
    mark
});

impl Buffer {
    /// So many bytes, which are more than the mark has; `None` where there is no memory for them.
    fn new(length: usize) -> Option<Self> {
        let layout = Self::layout(length).filter(|_| length >= MARK.len())?;
        // SAFETY: the layout is not of size zero.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        Some(Self { start, length })
    }

    fn layout(length: usize) -> Option<Layout> {
        Layout::from_size_align(length, ALIGNMENT).ok()
    }

    fn mark(&mut self) {
        // SAFETY: the memory is ours and at least as long as the mark.
        unsafe {
            let end = self.start.add(self.length - MARK.len());
            end.copy_from_nonoverlapping(NonNull::from(&*MARK).cast(), MARK.len());
        }
    }

    /// Whether the mark is still there.
    fn is_marked(&self) -> bool {
        // SAFETY: those bytes were written by `mark`, and perhaps again by the engine, whose run
        // is over.
        let end = unsafe {
            let end = self.start.add(self.length - MARK.len());
            std::slice::from_raw_parts(end.as_ptr(), MARK.len())
        };
        end == *MARK
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let layout = Self::layout(self.length).expect("the memory was allocated with it");
        // SAFETY: it was allocated with this layout and is freed once.
        unsafe { dealloc(self.start.as_ptr(), layout) }
    }
}

/// Memory that a run has filled.
struct Written(Buffer);

impl AsRef<[u8]> for Written {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: a successful run that replaced the mark has written the output, all of it: an
        // operator writes its whole output, in whosever memory that is. Nobody writes any more.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.length) }
    }
}

#[cfg(test)]
mod tests {
    use inferring_types::ShapeSpec;

    use super::*;

    fn spec(name: &str, dimensions: &[Dimension]) -> TensorSpec {
        let shape = ShapeSpec::new(dimensions.iter().cloned());
        TensorSpec { name: name.into(), datatype: DataType::Fp32, shape }
    }

    fn symbol(name: &str) -> Dimension {
        Dimension::Dynamic(Some(name.to_owned()))
    }

    fn tensor(shape: &[u64]) -> Tensor {
        let elements = shape.iter().product::<u64>() as usize;
        Tensor::new(DataType::Fp32, shape.into(), vec![0; 4 * elements].into()).unwrap()
    }

    #[test]
    fn a_shape_is_known_where_inputs_have_its_symbols() {
        let inputs = [
            spec("a", &[symbol("N"), Dimension::Fixed(2)]),
            spec("b", &[Dimension::Dynamic(None), symbol("S"), symbol("N")]),
        ];
        let given = [tensor(&[3, 2]), tensor(&[1, 5, 3])];
        for (dimensions, expected) in [
            (vec![symbol("N"), symbol("S"), Dimension::Fixed(7)], Some(vec![3, 5, 7])),
            (vec![Dimension::Fixed(7)], Some(vec![7])),
            (vec![], Some(vec![])),
            (vec![symbol("M")], None),
            (vec![symbol("N"), Dimension::Dynamic(None)], None),
        ] {
            let destination = Destination::of(&spec("y", &dimensions), &inputs);
            let shape = destination.map(|d| d.shape(&given).dimensions().to_vec());
            assert_eq!(shape, expected, "{dimensions:?}");
        }
        let texts = TensorSpec { datatype: DataType::Bytes, ..spec("y", &[symbol("N")]) };
        assert!(Destination::of(&texts, &inputs).is_none());
        let any = TensorSpec { shape: ShapeSpec::any_rank(), ..spec("y", &[]) };
        assert!(Destination::of(&any, &inputs).is_none());
    }

    #[test]
    fn a_declaration_is_trusted_once_it_was_kept_to_and_until_it_is_broken() {
        let inputs = [spec("x", &[symbol("N")])];
        let destination = || Destination::of(&spec("y", &[symbol("N")]), &inputs).unwrap();
        let large = [tensor(&[1 << 20])];
        let has_room = |d: &Destination, given: &[Tensor]| d.worthy_length(given).is_some();
        let kept = destination();
        assert!(!has_room(&kept, &large));
        kept.observe(&large, &[1 << 20].into());
        assert!(has_room(&kept, &large));
        assert!(!has_room(&kept, &[tensor(&[16])]), "not worth it");
        kept.distrust();
        kept.observe(&large, &[1 << 20].into());
        assert!(!has_room(&kept, &large));

        let broken = destination();
        broken.observe(&large, &[1].into());
        broken.observe(&large, &[1 << 20].into());
        assert!(!has_room(&broken, &large));
    }

    #[test]
    fn sizes_that_no_memory_has_give_no_room() {
        let inputs = [spec("x", &[symbol("N")])];
        let square = Destination::of(&spec("y", &vec![symbol("N"); 7]), &inputs).unwrap();
        assert_eq!(square.length(&[tensor(&[1 << 10])]), None);
        assert!(Buffer::new(usize::MAX / 2).is_none());
        assert!(Buffer::new(8).is_none(), "shorter than the mark");
    }

    #[test]
    fn a_mark_is_there_until_it_is_written_over() {
        let mut buffer = Buffer::new(64).unwrap();
        buffer.mark();
        assert!(buffer.is_marked());
        // SAFETY: the memory has 64 bytes.
        unsafe { buffer.start.as_ptr().write_bytes(0, 64) };
        assert!(!buffer.is_marked());
        assert_eq!(Written(buffer).as_ref(), [0; 64]);
    }
}
