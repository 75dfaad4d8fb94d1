"""The protocol's datatypes, as ONNX and numpy name them.

Numpy has no bfloat16 of its own: `ml_dtypes`, on which the onnx package relies, adds one.
Strings are arrays of `object` that hold `str`, as ONNX Runtime's Python API wants them.
"""

import ml_dtypes
import numpy as np
from onnx import TensorProto

OF_ONNX = {
    TensorProto.BOOL: "BOOL",
    TensorProto.UINT8: "UINT8",
    TensorProto.UINT16: "UINT16",
    TensorProto.UINT32: "UINT32",
    TensorProto.UINT64: "UINT64",
    TensorProto.INT8: "INT8",
    TensorProto.INT16: "INT16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.FLOAT: "FP32",
    TensorProto.DOUBLE: "FP64",
    TensorProto.STRING: "BYTES",
}

DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}

FLOATS = ("FP16", "BF16", "FP32", "FP64")

_OF_DTYPE = {dtype: name for name, dtype in DTYPES.items()}


def datatype_of(array):
    """The protocol's name for an array's type; `KeyError` where it has none."""
    return "BYTES" if array.dtype.kind in "OSU" else _OF_DTYPE[array.dtype]


def raw_bytes(array):
    """A tensor as the protocol sends it raw: row-major, little-endian, strings behind their
    length in 32 bits."""
    if datatype_of(array) == "BYTES":
        texts = (utf8(element) for element in array.flat)
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return array.tobytes()


def from_raw_bytes(data, datatype, shape):
    """What `raw_bytes` made, read back; `ValueError` where the length does not fit the shape."""
    if datatype == "BYTES":
        elements, rest = [], memoryview(data)
        while rest:
            length = int.from_bytes(rest[:4], "little")
            if len(rest) < 4 + length:
                raise ValueError("a string reaches over the end of its tensor")
            elements.append(str(rest[4 : 4 + length], "utf-8"))
            rest = rest[4 + length :]
        return string_array(elements, shape)
    return np.frombuffer(data, DTYPES[datatype]).reshape(shape)


def to_json(array):
    """A tensor's elements as a flat list for `json.dumps`."""
    if datatype_of(array) == "BYTES":
        return [utf8(element).decode() for element in array.flat]
    if array.dtype == DTYPES["BF16"]:
        array = array.astype(np.float32)
    return array.ravel().tolist()


def from_json(elements, datatype, shape):
    """What `to_json` made, read back; `ValueError` where number or kind of elements do not fit."""
    if datatype == "BYTES":
        return string_array(elements, shape)
    wanted = {"BOOL": bool}.get(datatype, (int, float) if datatype in FLOATS else int)
    # True is an int to Python, but no number in JSON.
    fits = all(
        isinstance(element, wanted) and (datatype == "BOOL" or not isinstance(element, bool))
        for element in elements
    )
    if not fits:
        raise ValueError(f"an element is no {datatype}")
    return np.array(elements, dtype=DTYPES[datatype]).reshape(shape)


def string_array(texts, shape):
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array.reshape(shape)


def utf8(element):
    return element if isinstance(element, bytes) else str(element).encode()
