"""A case through ONNX Runtime's own Python API: what the server's answers are held against."""

import ctypes
from dataclasses import dataclass

import numpy as np
import onnxruntime
from onnx import TensorProto

from .datatypes import DTYPES

BFLOAT16 = "tensor(bfloat16)"


@dataclass(frozen=True)
class Failure:
    """Why ONNX Runtime has no answer."""

    stage: str
    """`load` or `run`."""
    reason: str


def run(case):
    """The outputs for each data set, as lists in the model's order, or a `Failure`."""
    try:
        session = open_session(case.model.SerializeToString())
    except Exception as error:  # the API raises a class of its own for each status
        return Failure("load", first_line(error))
    try:
        return [answer(session, case.feeds(data_set)) for data_set in case.data_sets]
    except Exception as error:
        return Failure("run", first_line(error))


def open_session(model):
    """A session over a model's bytes or path, on the CPU, silent."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def answer(session, feeds):
    """One run: the outputs in the model's order."""
    declared = [*session.get_inputs(), *session.get_outputs()]
    if any(value.type == BFLOAT16 for value in declared):
        # Numpy has no bfloat16, so this API does not turn arrays into it or it into arrays.
        values = {name: to_ort_value(array) for name, array in feeds.items()}
        return [from_ort_value(v) for v in session.run_with_ort_values(None, values)]
    return session.run(None, feeds)


def to_ort_value(array):
    if array.dtype == DTYPES["BF16"]:
        bits = np.asarray(array, order="C").view(np.uint16)
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, TensorProto.BFLOAT16)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)


def from_ort_value(value):
    if value.data_type() == BFLOAT16:
        shape = value.shape()
        size = int(np.prod(shape)) * DTYPES["BF16"].itemsize
        data = ctypes.string_at(value.data_ptr(), size) if size else b""
        return np.frombuffer(data, DTYPES["BF16"]).reshape(shape)
    return value.numpy()


def first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]
