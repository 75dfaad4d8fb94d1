"""Sequences, maps and optionals, which the server answers as strings that hold JSON.

A sequence of n items is [n] texts, a map one text, an optional nothing or its content.
"""

import json

import numpy as np

from .datatypes import OF_ONNX, from_json

NON_FINITE = {"NaN": np.nan, "Infinity": np.inf, "-Infinity": -np.inf}


def read(texts, declared):
    """A value of the declared type (an `onnx.TypeProto`) out of the array of texts."""
    kind = declared.WhichOneof("value")
    if kind == "tensor_type":
        return texts
    if kind == "sequence_type":
        return [item(json.loads(text), declared.sequence_type.elem_type) for text in texts]
    if kind == "map_type":
        (text,) = texts
        return item(json.loads(text), declared.map_type)
    if kind == "optional_type":
        return optional(texts, declared.optional_type.elem_type)
    raise NotImplementedError(f"outputs of type {kind}")


def optional(texts, content):
    if len(texts) == 0:
        return None
    if content.WhichOneof("value") == "tensor_type":
        (text,) = texts
        return item(json.loads(text), content)
    return read(texts, content)


def item(parsed, declared):
    """A value inside: a tensor as an object, a map with its keys as text."""
    kind = declared.WhichOneof("value") if hasattr(declared, "WhichOneof") else None
    if kind == "tensor_type":
        return tensor(parsed)
    if kind == "map_type":
        declared = declared.map_type
    if hasattr(declared, "key_type"):
        key = str if OF_ONNX[declared.key_type] == "BYTES" else int
        return {key(name): scalar(value) for name, value in parsed.items()}
    raise NotImplementedError(f"items of type {kind}")


def tensor(parsed):
    assert parsed.keys() == {"datatype", "shape", "data"}, f"not a tensor: {parsed}"
    elements = parsed["data"]
    if parsed["datatype"] != "BYTES":
        elements = [scalar(element) for element in elements]
    return from_json(elements, parsed["datatype"], parsed["shape"])


def scalar(value):
    return NON_FINITE.get(value, value) if isinstance(value, str) else value
