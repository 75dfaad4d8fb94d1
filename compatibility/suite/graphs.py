"""The models as ONNX graphs, made when a repository is written: none is kept in a file."""

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

OPSET = 17
IR_VERSION = 8

ELEMENT_TYPES = {
    "BOOL": TensorProto.BOOL,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": TensorProto.STRING,
}

# One round of `wait` is a product of two matrices of this width: about a third of a
# millisecond on one core.
WAIT_WIDTH = 256
WAIT_ROUNDS_PER_MILLISECOND = 3
# Whatever number comes in: a server that tries a model out at load must come to an end.
WAIT_MILLISECONDS_MAX = 3000


def identity(model, version):
    (given,), (taken,) = model.inputs, model.outputs
    return serialized(model, [helper.make_node("Identity", [given.name], [taken.name])])


def mixed(model, version):
    pairs = zip(model.inputs, reversed(model.outputs), strict=True)
    return serialized(
        model, [helper.make_node("Identity", [given.name], [taken.name]) for given, taken in pairs]
    )


def add_sub(model, version):
    names = [one.name for one in model.inputs]
    nodes = [
        helper.make_node("Add", names, ["SUM"]),
        helper.make_node("Sub", names, ["DIFFERENCE"]),
    ]
    return serialized(model, nodes)


def add_version(model, version):
    return serialized(
        model,
        [helper.make_node("Add", ["INPUT", "version"], ["OUTPUT"])],
        version=np.array(version, dtype=np.float32),
    )


def lookup(model, version):
    return serialized(
        model,
        [helper.make_node("Gather", ["table", "INDICES"], ["VALUES"])],
        table=np.arange(10, dtype=np.float32) / 2,
    )


def running_sum(model, version):
    nodes = [
        helper.make_node("Mul", ["SUM_IN", "half"], ["remembered"]),
        helper.make_node("Add", ["remembered", "INPUT"], ["SUM_OUT"]),
        helper.make_node("Identity", ["SUM_OUT"], ["OUTPUT"]),
    ]
    return serialized(model, nodes, half=np.array(0.5, dtype=np.float32))


def wait(model, version):
    """A loop whose state must be computed: the runtime cannot leave a round out."""
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state_in", "rotation"], ["state_out"]),
            helper.make_node("Identity", ["condition_in"], ["condition_out"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_in", TensorProto.FLOAT, [WAIT_WIDTH, WAIT_WIDTH]),
        ],
        [
            helper.make_tensor_value_info("condition_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, [WAIT_WIDTH, WAIT_WIDTH]),
        ],
    )
    nodes = [
        helper.make_node("Clip", ["MILLISECONDS", "zero", "longest"], ["bounded"]),
        helper.make_node("ReduceMax", ["bounded"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "rounds_per_millisecond"], ["rounds"]),
        helper.make_node("Loop", ["rounds", "always", "rotation"], ["end"], body=body),
        # Not a number only if the loop went wrong: the answer depends on its end.
        helper.make_node("ReduceSum", ["end"], ["total"], keepdims=0),
        helper.make_node("IsNaN", ["total"], ["broken"]),
        helper.make_node("Cast", ["broken"], ["broken_as_number"], to=TensorProto.INT64),
        helper.make_node("Add", ["MILLISECONDS", "broken_as_number"], ["DONE"]),
    ]
    rotation = np.roll(np.eye(WAIT_WIDTH, dtype=np.float32), 1, axis=0)
    return serialized(
        model,
        nodes,
        zero=np.array(0, dtype=np.int64),
        longest=np.array(WAIT_MILLISECONDS_MAX, dtype=np.int64),
        rounds_per_millisecond=np.array(WAIT_ROUNDS_PER_MILLISECOND, dtype=np.int64),
        always=np.array(True),
        rotation=rotation,
    )


def serialized(model, nodes, **constants):
    """The bytes of a model with the declared inputs and outputs of `model`."""
    graph = helper.make_graph(
        nodes,
        model.name,
        [value_info(model, one) for one in model.inputs],
        [value_info(model, one) for one in model.outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def value_info(model, tensor):
    """Dynamic dimensions get a name each, by place: outputs have the inputs' sizes."""
    shape = [f"d{axis}" if size < 0 else size for axis, size in enumerate(tensor.dims)]
    if model.batch_size_max:
        shape.insert(0, "batch")
    return helper.make_tensor_value_info(tensor.name, ELEMENT_TYPES[tensor.datatype], shape)
