"""Values of every datatype, the awkward ones among them, and how answers are compared."""

import ml_dtypes
import numpy as np

NUMPY_TYPES = {
    "BOOL": np.bool_,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BF16": ml_dtypes.bfloat16,
    **{
        name: getattr(np, name.lower())
        for name in ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
    },
}

TEXTS = [b"", b"plain", "mit Umlaut: äöü €".encode(), b'quotes " and \\ and\nline', b" ", b"0"]
ARBITRARY_BYTES = [b"\x00", b"a\x00b", b"\xff\xfe", bytes(range(256)), b"\x00\x00", b"trail\x00"]


def values(datatype, shape=(2, 3)):
    """An array of the datatype with its smallest, largest and least round values."""
    count = int(np.prod(shape))
    if datatype == "BYTES":
        return texts([TEXTS[i % len(TEXTS)] for i in range(count)], shape)
    if datatype == "BOOL":
        array = np.arange(count) % 3 == 0
    elif "INT" in datatype:
        limits = np.iinfo(NUMPY_TYPES[datatype])
        some = [limits.min, limits.max, 0, 1, limits.max - 1, limits.min + 1]
        array = np.array([some[i % len(some)] for i in range(count)], NUMPY_TYPES[datatype])
    else:
        limits = ml_dtypes.finfo(NUMPY_TYPES[datatype])
        some = [limits.max, limits.min, limits.tiny, -0.0, 0.1, -1 / 3]
        array = np.array([some[i % len(some)] for i in range(count)], NUMPY_TYPES[datatype])
    return array.astype(NUMPY_TYPES[datatype]).reshape(shape)


def not_finite(datatype):
    return np.array([[np.nan, np.inf, -np.inf]], NUMPY_TYPES[datatype])


def texts(elements, shape=None):
    """A BYTES tensor of these elements, byte for byte."""
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    return array.reshape((1, len(elements)) if shape is None else shape)


def assert_same(got, sent):
    """Equal in shape, datatype and bits; a text may come as the text of its bytes."""
    assert got is not None, "no such output"
    assert got.shape == sent.shape
    if sent.dtype == np.object_:
        as_bytes = [one.encode() if isinstance(one, str) else one for one in got.flat]
        assert as_bytes == list(sent.flat)
        return
    assert got.dtype == sent.dtype
    assert got.tobytes() == sent.tobytes(), f"{got} is not {sent}"
