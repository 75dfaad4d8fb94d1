//! Tensors on their way into ONNX Runtime and out of it.
//!
//! This speaks to the C API directly, for what the safe binding cannot do: an input is a view of
//! the bytes as they came from the network, of any datatype, without a copy; strings may hold any
//! bytes, NUL included; and a run allocates nothing but its values. An output that the engine put
//! into its own memory is copied once: to keep that would pin the engine's arena for as long as an
//! answer is cached. Large ones are written where they are to lie, see
//! [`destination`](super::destination).
#![expect(unsafe_code, reason = "the C API; every block says why it is sound")]

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use bytes::{BufMut as _, Bytes, BytesMut};
use inferring_types::{DataType, Shape, Tensor};
use ort::AsPointer as _;
use ort::memory::{Allocator, MemoryInfo};
use ort::sys;
use ort::sys::ONNXTensorElementDataType as ElementType;
use smallvec::SmallVec;

use super::message;
use crate::ExecuteError;

#[cfg(target_endian = "big")]
compile_error!("tensors are little-endian bytes that the engine reads as they are");

/// A value that the engine made and this frees.
#[derive(Debug)]
pub(super) struct Value(NonNull<sys::OrtValue>);

/// An input of one run: a value over the bytes of a tensor, which it borrows.
#[derive(Debug)]
pub(super) struct Input<'t> {
    // Before the copy that it may point into: fields are dropped in this order.
    value: Value,
    _copy: Option<AlignedCopy>,
    _tensor: PhantomData<&'t Tensor>,
}

impl<'t> Input<'t> {
    /// A value of the tensor's datatype and shape over its bytes, which `memory` says are in
    /// ordinary memory. They are copied only where they are not aligned for their datatype, or
    /// hold a boolean that is neither 0 nor 1 (it counts as true).
    ///
    /// # Errors
    /// A dimension over `i64::MAX`, and whatever the engine says.
    pub(super) fn new(tensor: &'t Tensor, memory: &MemoryInfo<'_>) -> Result<Self, ExecuteError> {
        if tensor.datatype() == DataType::Bytes {
            let value = string_value(tensor, &signed_dimensions(tensor.shape())?)?;
            return Ok(Self { value, _copy: None, _tensor: PhantomData });
        }
        let bytes = tensor.data();
        let copy = AlignedCopy::if_needed(tensor);
        let data = copy.as_ref().map_or(bytes.as_ptr(), AlignedCopy::as_ptr);
        let (datatype, shape) = (tensor.datatype(), tensor.shape());
        // SAFETY: `data` points at `bytes.len()` bytes, aligned for the element type, that fit
        // the shape (a tensor's invariant). They outlive the value: it holds the copy, or borrows
        // the tensor for 't. The engine only reads inputs, so the cast away from const is never
        // used to write.
        let value = unsafe { Value::over(datatype, shape, data.cast_mut(), bytes.len(), memory)? };
        Ok(Self { value, _copy: copy, _tensor: PhantomData })
    }

    /// The engine's pointer, valid for as long as `self`.
    pub(super) fn as_ptr(&self) -> *const sys::OrtValue {
        self.value.as_ptr()
    }
}

impl Value {
    /// Takes a pointer that a call of the engine returned, and ownership of what it points at.
    ///
    /// # Errors
    /// The engine left it null.
    pub(super) fn new(pointer: *mut sys::OrtValue) -> Result<Self, ExecuteError> {
        Self::of_nullable(pointer)
            .ok_or_else(|| ExecuteError("the engine gave no value".to_owned()))
    }

    /// The same of a call that may return no value.
    pub(super) fn of_nullable(pointer: *mut sys::OrtValue) -> Option<Self> {
        NonNull::new(pointer).map(Self)
    }

    /// A value over `length` bytes that are somebody else's, which `memory` says are in ordinary
    /// memory.
    ///
    /// # Errors
    /// A dimension over `i64::MAX`, and whatever the engine says.
    ///
    /// # Safety
    /// As long as the value lives, the bytes stay where they are; they are as many as the shape
    /// has elements of the datatype, which is of a fixed size, and aligned for it. The engine
    /// reads them where the value is an input, and writes them where it is an output.
    pub(super) unsafe fn over(
        datatype: DataType,
        shape: &Shape,
        data: *mut u8,
        length: usize,
        memory: &MemoryInfo<'_>,
    ) -> Result<Self, ExecuteError> {
        let dimensions = signed_dimensions(shape)?;
        let mut value = ptr::null_mut();
        // SAFETY: the bytes are the caller's promise; the dimensions are read during the call.
        unsafe {
            check((ort::api().CreateTensorWithDataAsOrtValue)(
                memory.ptr(),
                data.cast(),
                length,
                dimensions.as_ptr(),
                dimensions.len(),
                element_type(datatype),
                &raw mut value,
            ))?;
        }
        Self::new(value)
    }

    /// The engine's pointer, valid for as long as `self`.
    pub(super) fn as_ptr(&self) -> *const sys::OrtValue {
        self.0.as_ptr()
    }

    /// Whether it holds anything: an optional value may not.
    pub(super) fn is_present(&self) -> bool {
        let mut present = 0;
        // SAFETY: the value is valid until `self` is dropped; the call writes one number.
        let status = unsafe { check((ort::api().HasValue)(self.0.as_ptr(), &raw mut present)) };
        status.is_ok() && present != 0
    }

    /// The tensor that this value holds, copied out.
    ///
    /// # Errors
    /// The value is no dense tensor of a datatype that is served, or the engine fails.
    pub(super) fn to_tensor(&self) -> Result<Tensor, ExecuteError> {
        let (datatype, shape) = self.datatype_and_shape()?;
        let data = match datatype.element_size() {
            Some(element_size) => self.copy_elements(&shape, element_size)?,
            None => self.copy_strings(&shape)?,
        };
        Tensor::new(datatype, shape, data).map_err(|error| ExecuteError(error.to_string()))
    }

    fn datatype_and_shape(&self) -> Result<(DataType, Shape), ExecuteError> {
        let mut is_dense_tensor = 0;
        let mut element = ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
        let mut dimensions = ptr::null();
        let mut rank = 0;
        // SAFETY: the value is valid until `self` is dropped, and the out parameters are of the
        // types that the calls write. The second is only made for tensors, as it demands.
        unsafe {
            check((ort::api().IsTensor)(self.0.as_ptr(), &raw mut is_dense_tensor))?;
            if is_dense_tensor == 0 {
                return Err(ExecuteError("the model gave a value that is no tensor".to_owned()));
            }
            check((ort::api().GetTensorElementTypeAndShapeDataReference)(
                self.0.as_ptr(),
                &raw mut element,
                &raw mut dimensions,
                &raw mut rank,
            ))?;
        }
        let dimensions = if rank == 0 {
            &[]
        } else {
            // SAFETY: the engine says that `rank` dimensions lie there; they belong to the value
            // and are read before anything else happens to it.
            unsafe { std::slice::from_raw_parts(dimensions, rank) }
        };
        let negative = |_| ExecuteError("the engine gave a negative dimension".to_owned());
        let shape = dimensions
            .iter()
            .map(|&size| u64::try_from(size).map_err(negative))
            .collect::<Result<SmallVec<[u64; 6]>, _>>()?;
        let Some(datatype) = datatype_of(element.into()) else {
            let element = ort::value::TensorElementType::from(element);
            return Err(ExecuteError(format!("the model gave a tensor of {element}")));
        };
        Ok((datatype, Shape::from(&*shape)))
    }

    fn copy_elements(&self, shape: &Shape, element_size: usize) -> Result<Bytes, ExecuteError> {
        let elements = shape.elements().and_then(|elements| usize::try_from(elements).ok());
        let Some(length) = elements.and_then(|elements| elements.checked_mul(element_size)) else {
            return Err(ExecuteError(format!("the engine gave a tensor of shape {shape}")));
        };
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut data = ptr::null_mut();
        // SAFETY: the value is a dense tensor of fixed-size elements in ordinary memory (a run
        // puts outputs there by itself), so the pointer is to `length` bytes that the
        // engine has written and that stay until `self` is dropped.
        unsafe {
            check((ort::api().GetTensorMutableData)(self.0.as_ptr(), &raw mut data))?;
            let bytes = std::slice::from_raw_parts(data.cast::<u8>(), length);
            Ok(Bytes::copy_from_slice(bytes))
        }
    }

    fn copy_strings(&self, shape: &Shape) -> Result<Bytes, ExecuteError> {
        let elements = shape.elements().and_then(|elements| usize::try_from(elements).ok());
        let Some(elements) = elements else {
            return Err(ExecuteError(format!("the engine gave a tensor of shape {shape}")));
        };
        if elements == 0 {
            return Ok(Bytes::new());
        }
        let mut length = 0;
        // SAFETY: the value is a string tensor; the call writes one number.
        unsafe {
            check((ort::api().GetStringTensorDataLength)(self.0.as_ptr(), &raw mut length))?;
        }
        let mut content = vec![0_u8; length];
        let mut ends = vec![0_usize; elements];
        // SAFETY: both buffers have the lengths that are passed, and these are the ones that the
        // tensor has: the call refuses others.
        unsafe {
            check((ort::api().GetStringTensorContent)(
                self.0.as_ptr(),
                content.as_mut_ptr().cast(),
                content.len(),
                ends.as_mut_ptr(),
                ends.len(),
            ))?;
        }
        // The call gives where each string starts. Turned into where each ends:
        ends.rotate_left(1);
        ends[elements - 1] = length;
        join_strings(&content, &ends)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the engine, is owned by `self` alone and freed once.
        unsafe { (ort::api().ReleaseValue)(self.0.as_ptr()) }
    }
}

/// Turns a status into a result, with the engine's message.
///
/// # Safety
/// `status` is what a call of the C API has just returned, and is not used again.
pub(super) unsafe fn check(status: sys::OrtStatusPtr) -> Result<(), ExecuteError> {
    // SAFETY: passed on to the caller.
    unsafe { ort::Error::result_from_status(status) }
        .map_err(|error| ExecuteError(message::clean(error.message())))
}

/// The datatype that a tensor element type is served as; `None` for one that is not.
pub(super) fn datatype_of(element: ort::value::TensorElementType) -> Option<DataType> {
    use ort::value::TensorElementType as Element;
    Some(match element {
        Element::Bool => DataType::Bool,
        Element::Uint8 => DataType::Uint8,
        Element::Uint16 => DataType::Uint16,
        Element::Uint32 => DataType::Uint32,
        Element::Uint64 => DataType::Uint64,
        Element::Int8 => DataType::Int8,
        Element::Int16 => DataType::Int16,
        Element::Int32 => DataType::Int32,
        Element::Int64 => DataType::Int64,
        Element::Float16 => DataType::Fp16,
        Element::Bfloat16 => DataType::Bf16,
        Element::Float32 => DataType::Fp32,
        Element::Float64 => DataType::Fp64,
        Element::String => DataType::Bytes,
        _ => return None,
    })
}

fn element_type(datatype: DataType) -> ElementType {
    match datatype {
        DataType::Bool => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        DataType::Uint8 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        DataType::Uint16 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        DataType::Uint32 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        DataType::Uint64 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        DataType::Int8 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        DataType::Int16 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
        DataType::Int32 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        DataType::Int64 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        DataType::Fp16 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        DataType::Bf16 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
        DataType::Fp32 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        DataType::Fp64 => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        DataType::Bytes => ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
    }
}

fn signed_dimensions(shape: &Shape) -> Result<SmallVec<[i64; 6]>, ExecuteError> {
    let too_large = |_| ExecuteError(format!("shape {shape} has a dimension over 2^63 - 1"));
    shape.dimensions().iter().map(|&size| i64::try_from(size).map_err(too_large)).collect()
}

/// A copy of a tensor's bytes, aligned for every element type.
#[derive(Debug)]
struct AlignedCopy(Vec<u64>);

impl AlignedCopy {
    fn if_needed(tensor: &Tensor) -> Option<Self> {
        let bytes = tensor.data();
        if tensor.datatype() == DataType::Bool {
            return bytes.iter().any(|&b| b > 1).then(|| Self::of(bytes, |b| u8::from(b != 0)));
        }
        let alignment = tensor.datatype().element_size().unwrap_or(1);
        (!bytes.as_ptr().addr().is_multiple_of(alignment)).then(|| Self::of(bytes, |b| b))
    }

    fn of(bytes: &[u8], map: impl Fn(u8) -> u8) -> Self {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let chunks = chunks.iter().chain(std::iter::once(&last));
        Self(chunks.map(|chunk| u64::from_le_bytes(chunk.map(&map))).collect())
    }

    fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }
}

/// A string tensor with the elements of `tensor`, whatever bytes they hold.
fn string_value(tensor: &Tensor, dimensions: &[i64]) -> Result<Value, ExecuteError> {
    let allocator = Allocator::default();
    let mut value = ptr::null_mut();
    // SAFETY: the default allocator lives as long as the process; the dimensions are read during
    // the call.
    unsafe {
        check((ort::api().CreateTensorAsOrtValue)(
            allocator.ptr().cast_mut(),
            dimensions.as_ptr(),
            dimensions.len(),
            ElementType::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
            &raw mut value,
        ))?;
    }
    let value = Value::new(value)?;
    for (index, element) in strings(tensor.data()).enumerate() {
        let mut buffer = ptr::null_mut();
        // SAFETY: a tensor's invariant is that it has as many strings as its shape has elements,
        // so the index is within. The call makes room for `element.len()` bytes there, and
        // nothing else refers to that room while it is filled.
        unsafe {
            check((ort::api().GetResizedStringTensorElementBuffer)(
                value.0.as_ptr(),
                index,
                element.len(),
                &raw mut buffer,
            ))?;
            ptr::copy_nonoverlapping(element.as_ptr(), buffer.cast(), element.len());
        }
    }
    Ok(value)
}

/// The elements of a BYTES tensor, each behind its length.
pub(super) fn strings(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<4>()?;
        let (element, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        data = rest;
        Some(element)
    })
}

/// The opposite: strings that lie end to end in `content`, each ending at its place in `ends`.
fn join_strings(content: &[u8], ends: &[usize]) -> Result<Bytes, ExecuteError> {
    let mut data = BytesMut::with_capacity(content.len() + 4 * ends.len());
    let mut start = 0;
    for &end in ends {
        let element = content
            .get(start..end)
            .ok_or_else(|| ExecuteError("the engine gave strings that overlap".to_owned()))?;
        let length = u32::try_from(element.len())
            .map_err(|_| ExecuteError("the model gave a string of over 4 GiB".to_owned()))?;
        data.put_u32_le(length);
        data.put_slice(element);
        start = end;
    }
    Ok(data.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Device;
    use crate::ort::{OrtBackend, OrtConfig};

    #[test]
    fn strings_split_and_join() {
        let elements: [&[u8]; 4] = [b"", b"a\0b", b"\xff", b""];
        let content = elements.concat();
        let data = join_strings(&content, &[0, 3, 4, 4]).unwrap();
        assert_eq!(strings(&data).collect::<Vec<_>>(), elements);
        assert!(join_strings(&content, &[3, 2]).is_err());
        assert!(join_strings(&content, &[9]).is_err());
    }

    /// Where the engine reads the elements of an input.
    fn place(input: &Input<'_>) -> *const u8 {
        let mut data = ptr::null_mut();
        // SAFETY: the value is a tensor in ordinary memory, of a datatype of a fixed size.
        unsafe {
            check((ort::api().GetTensorMutableData)(input.as_ptr().cast_mut(), &raw mut data))
                .unwrap();
        }
        data.cast()
    }

    #[test]
    fn the_engine_reads_an_input_where_it_lies_unless_it_is_misaligned() {
        let config = OrtConfig { device: Device::Cpu, ..OrtConfig::default() };
        let _engine = OrtBackend::start(config).unwrap();
        let storage = Bytes::from(vec![1_u8; 4096]);
        let aligned = storage.as_ptr().align_offset(8);
        for (offset, copied) in [(aligned, false), (aligned + 4, false), (aligned + 1, true)] {
            let data = storage.slice(offset..offset + 2000);
            let tensor = Tensor::new(DataType::Fp32, [500].into(), data).unwrap();
            let input = Input::new(&tensor, &MemoryInfo::default()).unwrap();
            assert_eq!(place(&input) != tensor.data().as_ptr(), copied, "{offset}");
            assert!(place(&input).addr().is_multiple_of(4));
        }
    }

    #[test]
    fn an_aligned_copy_holds_the_same_bytes() {
        for length in [0, 1, 7, 8, 9, 64] {
            let bytes = (0..length).collect::<Vec<u8>>();
            let copy = AlignedCopy::of(&bytes, |b| b);
            let copied = copy.0.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
            assert_eq!(copied[..bytes.len()], bytes);
            assert_eq!(copy.as_ptr().addr() % 8, 0);
        }
    }

    #[test]
    fn only_misaligned_bytes_and_odd_booleans_are_copied() {
        let storage = Bytes::from(vec![1_u8; 64]);
        let aligned = storage.as_ptr().addr().next_multiple_of(8) - storage.as_ptr().addr();
        let tensor = |datatype, offset: usize, elements: usize| {
            let size = DataType::element_size(datatype).unwrap();
            let data = storage.slice(offset..offset + elements * size);
            Tensor::new(datatype, [elements as u64].into(), data).unwrap()
        };
        for (datatype, offset, copied) in [
            (DataType::Fp64, aligned, false),
            (DataType::Fp64, aligned + 4, true),
            (DataType::Fp32, aligned + 4, false),
            (DataType::Fp32, aligned + 2, true),
            (DataType::Fp16, aligned + 2, false),
            (DataType::Fp16, aligned + 1, true),
            (DataType::Uint8, aligned + 1, false),
            (DataType::Bool, aligned + 1, false),
        ] {
            let copy = AlignedCopy::if_needed(&tensor(datatype, offset, 3));
            assert_eq!(copy.is_some(), copied, "{datatype} at {offset}");
        }
        let odd = Tensor::new(DataType::Bool, [3].into(), Bytes::from_static(&[0, 1, 2])).unwrap();
        let copy = AlignedCopy::if_needed(&odd).unwrap();
        assert_eq!(copy.0[0].to_le_bytes()[..3], [0, 1, 1]);
    }
}
