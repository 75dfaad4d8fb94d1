#!/usr/bin/env python3
"""Writes the corpus of NumPy files beside it, and what NumPy itself reads in them.

Needs numpy and ml_dtypes. `expected.json` lists for each good file the datatype, the shape and
the elements, row by row and little-endian in hexadecimal; for each bad one a part of the error.
"""

import io
import json
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
from numpy.lib import format as npy

HERE = Path(__file__).parent

DATATYPES = {
    "b1": "BOOL",
    "u1": "UINT8",
    "u2": "UINT16",
    "u4": "UINT32",
    "u8": "UINT64",
    "i1": "INT8",
    "i2": "INT16",
    "i4": "INT32",
    "i8": "INT64",
    "f2": "FP16",
    "f4": "FP32",
    "f8": "FP64",
    "V2": "BF16",
}

expected = {}


def elements(array):
    """The elements as a tensor holds them."""
    if array.dtype.kind == "S":
        strings = [bytes(s) for s in array.ravel()]
    elif array.dtype.kind == "U":
        strings = [str(s).encode() for s in array.ravel()]
    else:
        little = array.dtype.newbyteorder("<")
        return np.ascontiguousarray(array).astype(little, copy=False).tobytes()
    return b"".join(struct.pack("<I", len(s)) + s for s in strings)


def describe(array):
    kind = array.dtype.str[1:]
    return {
        "datatype": DATATYPES.get(kind, "BYTES"),
        "shape": list(array.shape),
        "data": elements(array).hex(),
    }


def good(name, array, version=None):
    file = io.BytesIO()
    npy.write_array(file, np.asanyarray(array), version=version)
    (HERE / f"{name}.npy").write_bytes(file.getvalue())
    expected[f"{name}.npy"] = describe(np.asanyarray(array))


def bad(name, content, error):
    (HERE / name).write_bytes(content)
    expected[name] = {"error": error}


def saved(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def raw(header, data=b"", version=(1, 0), length=None):
    text = header.encode()
    length = len(text) if length is None else length
    size = struct.pack("<H" if version == (1, 0) else "<I", length)
    return b"\x93NUMPY" + bytes(version) + size + text + data


def dictionary(descr="'<f4'", order="False", shape="(2,)", end="}"):
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {end}\n"


def good_files():
    for kind in ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"]:
        dtype = np.dtype(kind)
        if dtype.kind == "f":
            ends = [np.finfo(dtype).min, np.finfo(dtype).tiny, np.inf, np.nan]
        else:
            ends = [np.iinfo(dtype).min, np.iinfo(dtype).max, 1, 2]
        good(f"little_{kind}", np.array([[*ends, 3, 4]], dtype.newbyteorder("<")))
        if dtype.itemsize > 1:
            good(f"big_{kind}", np.array([[*ends, 3, 4]], dtype.newbyteorder(">")))
    good("bool", np.array([[True, False], [False, True]]))
    good("bf16", np.array([1, -2.5, np.nan, 3e38], ml_dtypes.bfloat16))
    good("scalar", np.float32(2.5))
    good("empty", np.zeros((2, 0, 3), "f4"))
    good("empty_of_huge", np.zeros((0, 1 << 40), "f4"))
    good("fortran", np.asfortranarray(np.arange(24, dtype="i4").reshape(2, 3, 4)))
    good("fortran_big", np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)))
    good("bytes", np.array([[b"a", b"bc\x00d"], [b"", b"\xff\xfe"]]))
    good("fortran_bytes", np.asfortranarray(np.array([[b"a", b"bcd"], [b"", b"e"]])))
    good("unicode", np.array(["a", "größe", "", "日本語", "🦀"]))
    good("big_unicode", np.array(["a", "é"], dtype=">U3"))
    good("unicode_scalar", np.array("hello"))
    good("version_2", np.arange(3, dtype="f4"), (2, 0))
    good("version_3", np.arange(3, dtype="f4"), (3, 0))
    good("rank_32", np.ones((1,) * 32, "u1"))


def bad_files():
    for name, array, error in [
        ("objects", np.array([b"a", 2], object), "pickled"),
        ("complex", np.array([1j]), "complex"),
        ("time", np.array(["2020-01-01"], "M8[D]"), "times"),
        ("record", np.zeros(2, [("größe", "f4"), ("b", "i8")]), "records"),
        ("void", np.zeros(2, "V3"), "records"),
        ("extended", np.zeros(1, np.longdouble), "extended"),
    ]:
        bad(f"{name}.npy", saved(array), error)
    whole = saved(np.arange(4, dtype="f4"))
    bad("cut_short.npy", whole[:-1], "15 bytes")
    bad("too_long.npy", whole + b"\0", "17 bytes")
    bad("nothing.npy", b"", "not a NumPy array")
    bad("magic_only.npy", whole[:6], "not a NumPy array")
    bad("half_length.npy", whole[:9], "ends within its header")
    bad("half_header.npy", whole[:40], "ends within its header")
    bad("version_9.npy", whole[:6] + b"\x09\x00" + whole[8:], "version 9.0")
    bad("header_of_4_gib.npy", raw("", version=(2, 0), length=0xFFFFFFFF), "longer than")
    for name, header, error in [
        ("two_to_the_60", dictionary(shape="(1152921504606846976,)"), "does not take"),
        ("overflow", dictionary(shape="(4294967296, 4294967296, 4294967296)"), "does not take"),
        ("bytes_overflow", dictionary(shape="(4611686018427387904,)"), "does not take"),
        ("more_than_64_bits", dictionary(shape="(18446744073709551616,)"), "64 bits"),
        ("negative", dictionary(shape="(-1,)"), "not negative"),
        ("float_size", dictionary(shape="(2.0,)"), "expected `,`"),
        ("no_tuple", dictionary(shape="2"), "a tuple of sizes"),
        ("rank_1000", dictionary(shape="(" + "1," * 1000 + ")"), "more than 64 dimensions"),
        ("nested", dictionary(shape="(" * 1000), "not negative"),
        ("no_end", dictionary(end=""), "expected a string"),
        ("rest", dictionary() + "x", "more text"),
        ("call", dictionary(descr="__import__('os')"), "expected a string"),
        ("escape", dictionary(descr="'\\x3cf4'"), "escape"),
        ("unknown_key", "{'descr': '<f4', 'order': False}", "unknown key"),
        ("repeated_key", "{'descr': '<f4', 'descr': '<f4'}", "stands twice"),
        ("missing_key", "{'descr': '<f4'}", "`fortran_order` is missing"),
        ("order_is_1", dictionary(order="1"), "True or False"),
        ("no_width", dictionary("'|S0'", shape="(1152921504606846976,)"), "length of at least"),
        ("wide", dictionary(descr="'<U99999999999999999999'"), "length of at least"),
        ("wide_overflow", dictionary(descr="'|S4611686018427387903'"), "does not take"),
        ("unknown_type", dictionary(descr="'<q9'"), "no datatype"),
        ("no_type", dictionary(descr="''"), "no datatype"),
    ]:
        bad(f"{name}.npy", raw(header), error)
    surrogate = raw(dictionary(descr="'<U1'"), struct.pack("<2I", 65, 0xD800))
    bad("surrogate.npy", surrogate, "element 1 of the array is no Unicode text")


def archives():
    arrays = {
        "x": np.arange(6, dtype="f4").reshape(2, 3),
        "names/text:0": np.array([b"ab", b""]),
    }
    for name, save in [("stored", np.savez), ("deflated", np.savez_compressed)]:
        save(HERE / f"{name}.npz", **arrays)
        expected[f"{name}.npz"] = {k: describe(v) for k, v in arrays.items()}
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", saved(np.zeros(1 << 20, "f4")))
    bad("bomb.npz", file.getvalue(), "more than the limit of 1048576 bytes")
    bad("not_an_archive.npz", b"PK\x03\x04 and no more", "not an archive of arrays")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("readme.txt", b"hello")
    bad("other_member.npz", file.getvalue(), "`readme.txt` is no .npy file")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", saved(np.array([1j])))
    bad("complex.npz", file.getvalue(), "array `x`: NumPy type")
    whole = bytearray((HERE / "stored.npz").read_bytes())
    whole[whole.index(b"\x00\x00\x80\x3f")] ^= 1
    bad("wrong_checksum.npz", bytes(whole), "member `x.npy` is damaged")


good_files()
bad_files()
archives()
(HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
