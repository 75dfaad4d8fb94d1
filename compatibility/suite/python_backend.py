"""The models as source texts for the Python backend of the Triton server.

They are run by the interpreter inside that server, with numpy and Triton's own module; nothing
here imports them.
"""

# Numpy knows nothing of BF16: such a tensor's memory is passed on as it is.
IDENTITY = """
def compute(inputs):
    (tensor,) = inputs.values()
    if DATATYPES == ["BF16"]:
        return [pb_utils.Tensor.from_dlpack("OUTPUT", tensor.to_dlpack())]
    return [pb_utils.Tensor("OUTPUT", tensor.as_numpy())]
"""

ADD_SUB = """
def compute(inputs):
    left, right = inputs["INPUT0"].as_numpy(), inputs["INPUT1"].as_numpy()
    return [pb_utils.Tensor("SUM", left + right), pb_utils.Tensor("DIFFERENCE", left - right)]
"""

MIXED = """
def compute(inputs):
    return [
        pb_utils.Tensor(name + "_OUT", inputs[name].as_numpy())
        for name in ("HALVES", "TEXTS", "NUMBERS", "FLAGS")
    ]
"""

ADD_VERSION = """
def compute(inputs):
    return [pb_utils.Tensor("OUTPUT", inputs["INPUT"].as_numpy() + np.float32(VERSION))]
"""

WAIT = """
def compute(inputs):
    milliseconds = inputs["MILLISECONDS"].as_numpy()
    time.sleep(max(0, int(milliseconds.max())) / 1000)
    return [pb_utils.Tensor("DONE", milliseconds)]
"""

LOOKUP = """
def compute(inputs):
    indices = inputs["INDICES"].as_numpy()
    table = np.arange(10, dtype=np.float32) / 2
    return [pb_utils.Tensor("VALUES", table[indices])]
"""

FRAME = """
import time

import numpy as np
import triton_python_backend_utils as pb_utils

VERSION = {version}
INPUTS = {inputs}
DATATYPES = {datatypes}
{compute}

class TritonPythonModel:
    def execute(self, requests):
        return [answer(request) for request in requests]


def answer(request):
    try:
        return pb_utils.InferenceResponse(
            compute({{name: pb_utils.get_input_tensor_by_name(request, name) for name in INPUTS}})
        )
    except Exception as error:
        return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))
"""


def source(model, version):
    """The text of `model.py`."""
    return FRAME.format(
        version=version,
        inputs=[one.name for one in model.inputs],
        datatypes=[one.datatype for one in model.inputs],
        compute=model.python,
    )
