#!/usr/bin/env python3
"""Make the small ONNX models that tests and benchmarks ask.

Each function below builds one model; its docstring says what is special about
it. Weights come from fixed seeds, so the files are the same on every machine.

Usage:
    make.py                 write the models and cases.json for the tests
    make.py --check         fail if a committed file differs from what would be written
    make.py --bench DIR     write the larger models of the benchmarks into DIR

`cases.json` holds inputs and the outputs that ONNX Runtime itself gave through
its Python package: a reference which does not pass through our own code.
Needs onnx, onnxruntime and numpy in the versions of requirements.txt.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import resnet
from onnx import TensorProto, helper, numpy_helper

REPOSITORY = Path(__file__).resolve().parents[2]
TEST_MODELS = REPOSITORY / "crates" / "integration-tests" / "models"
IRIS = REPOSITORY / "models" / "iris" / "iris.onnx"

OPSET = 17
IR_VERSION = 8

# slow.onnx takes between 50 and 100 ms on one core of a server of today.
SLOW_WIDTH = 256
SLOW_ROUNDS = 240


def tiny_mlp():
    """[N,3] to [N,2] through one hidden layer of 8: the model of most tests. Batchable."""
    return multilayer_perceptron("tiny_mlp", [3, 8, 2], seed=1)


def mlp784():
    """[N,784] to [N,10]: the size of a small image classifier. Batchable."""
    return multilayer_perceptron("mlp784", [784, 128, 10], seed=2)


def time_major_cumsum():
    """[T,4] to [T,4], summed along T: the first dimension is dynamic and is *time*.

    Two requests put together change the answer of the second one, so a server
    that batches by the look of the shape answers wrongly.
    """
    return model(
        "time_major_cumsum",
        [helper.make_node("CumSum", ["input", "axis"], ["output"])],
        inputs=[("input", TensorProto.FLOAT, ["T", 4])],
        outputs=[("output", TensorProto.FLOAT, ["T", 4])],
        constants={"axis": np.array(0, dtype=np.int64)},
    )


def batch_norm_like():
    """[N,4] to [N,4], less the mean over N: every row depends on its neighbours. Not batchable."""
    return model(
        "batch_norm_like",
        [
            helper.make_node("ReduceMean", ["input"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["input", "mean"], ["output"]),
        ],
        inputs=[("input", TensorProto.FLOAT, ["N", 4])],
        outputs=[("output", TensorProto.FLOAT, ["N", 4])],
    )


def fixed_batch():
    """[1,4] to [1,2]: one row a run, never more."""
    return multilayer_perceptron("fixed_batch", [4, 2], seed=3, rows=1)


def fixed_batch3():
    """[3,2] to [3,2]: exactly three rows a run, which is one item of the plain interface."""
    return multilayer_perceptron("fixed_batch3", [2, 4, 2], seed=4, rows=3)


def int64_scale():
    """[N,3] int64, times three: integers above 2^53 must survive the way."""
    return scale("int64_scale", TensorProto.INT64, np.int64(3))


def f16_scale():
    """[N,3] float16, times two."""
    return scale("f16_scale", TensorProto.FLOAT16, np.float16(2))


def f64_scale():
    """[N,3] float64, divided by ten: a detour through float32 shows in the digits."""
    return scale("f64_scale", TensorProto.DOUBLE, np.float64(0.1))


def uint8_sum():
    """[N,L] uint8 to float32 [N,1]: two dynamic dimensions, another datatype out than in."""
    return model(
        "uint8_sum",
        [
            helper.make_node("Cast", ["input"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["numbers", "axes"], ["sum"], keepdims=1),
        ],
        inputs=[("input", TensorProto.UINT8, ["N", "L"])],
        outputs=[("sum", TensorProto.FLOAT, ["N", 1])],
        constants={"axes": np.array([1], dtype=np.int64)},
    )


def slow():
    """[N,4] to [N,4], doubled, after a fixed amount of work: a run costs the same for every N.

    SLOW_ROUNDS times, a matrix of 256 x 256 is multiplied by itself. All its elements
    are 1/256, a power of two, so its square is itself without any rounding, and the
    factor 2 that comes out is exact. (Any other width would square its rounding error
    in every round.) The number of rounds is computed from the input, so that no
    optimiser can do the work at load time.
    """
    return model(
        "slow",
        [
            helper.make_node("Shape", ["input"], ["shape"]),
            helper.make_node("Gather", ["shape", "zero"], ["rows"]),
            helper.make_node("Mul", ["rows", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "rounds"], ["trip_count"]),
            helper.make_node(
                "ConstantOfShape",
                ["matrix_shape"],
                ["start"],
                value=numpy_helper.from_array(np.array([1 / SLOW_WIDTH], dtype=np.float32)),
            ),
            helper.make_node("Loop", ["trip_count", "", "start"], ["end"], body=squaring()),
            helper.make_node("ReduceMean", ["end"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "twice_width"], ["two"]),
            helper.make_node("Mul", ["input", "two"], ["output"]),
        ],
        inputs=[("input", TensorProto.FLOAT, ["N", 4])],
        outputs=[("output", TensorProto.FLOAT, ["N", 4])],
        constants={
            "zero": np.array(0, dtype=np.int64),
            "rounds": np.array(SLOW_ROUNDS, dtype=np.int64),
            "matrix_shape": np.array([SLOW_WIDTH, SLOW_WIDTH], dtype=np.int64),
            "twice_width": np.array(2 * SLOW_WIDTH, dtype=np.float32),
        },
    )


def squaring():
    """The body of slow's loop: matrix := matrix x matrix."""
    width = SLOW_WIDTH
    return helper.make_graph(
        [
            helper.make_node("MatMul", ["matrix", "matrix"], ["square"]),
            helper.make_node("Identity", ["continue"], ["go_on"]),
        ],
        "squaring",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("continue", TensorProto.BOOL, []),
            helper.make_tensor_value_info("matrix", TensorProto.FLOAT, [width, width]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("square", TensorProto.FLOAT, [width, width]),
        ],
    )


def two_inputs():
    """a and b, both [N,2], to their sum: for what the plain interface cannot say."""
    return model(
        "two_inputs",
        [helper.make_node("Add", ["a", "b"], ["sum"])],
        inputs=[("a", TensorProto.FLOAT, ["N", 2]), ("b", TensorProto.FLOAT, ["N", 2])],
        outputs=[("sum", TensorProto.FLOAT, ["N", 2])],
    )


def two_outputs():
    """[N,3] to its double [N,3] and to the sum of each row [N,1]."""
    return model(
        "two_outputs",
        [
            helper.make_node("Add", ["input", "input"], ["double"]),
            helper.make_node("ReduceSum", ["input", "axes"], ["total"], keepdims=1),
        ],
        inputs=[("input", TensorProto.FLOAT, ["N", 3])],
        outputs=[("double", TensorProto.FLOAT, ["N", 3]), ("total", TensorProto.FLOAT, ["N", 1])],
        constants={"axes": np.array([1], dtype=np.int64)},
    )


def poison_row():
    """[N,1] int64, a row of a table of ten, to [N,2]: an index outside fails the whole run.

    Batchable, and so the model in which one bad request takes its neighbours down
    unless the server runs them again without it.
    """
    table = np.arange(20, dtype=np.float32).reshape(10, 2)
    return model(
        "poison_row",
        [
            helper.make_node("Squeeze", ["index", "axes"], ["flat"]),
            helper.make_node("Gather", ["table", "flat"], ["output"], axis=0),
        ],
        inputs=[("index", TensorProto.INT64, ["N", 1])],
        outputs=[("output", TensorProto.FLOAT, ["N", 2])],
        constants={"axes": np.array([1], dtype=np.int64), "table": table},
    )


def recurrent():
    """[N,4], a state [2,N,3] and a scale for all rows to [N,4] and the next state: as a model of
    speech hears, each answer depends on what came before.

    A row's answer is scale (2 x + sum of x + sum of its state), and its next state the sum of x
    less its state: another order of the same rows gives another state. Whole numbers stay exact.
    The rows of the state lie on its second axis, so the proof at load finds nothing and they have
    to be declared.
    """
    return model(
        "recurrent",
        [
            helper.make_node("ReduceSum", ["input", "columns"], ["sum"], keepdims=1),
            helper.make_node("Unsqueeze", ["sum", "first"], ["sum_of_layers"]),
            helper.make_node("Sub", ["sum_of_layers", "state"], ["next_state"]),
            helper.make_node("ReduceSum", ["state", "state_of_row"], ["of_row"], keepdims=0),
            helper.make_node("Unsqueeze", ["of_row", "columns"], ["remembered"]),
            helper.make_node("Add", ["input", "input"], ["double"]),
            helper.make_node("Add", ["double", "sum"], ["heard"]),
            helper.make_node("Add", ["heard", "remembered"], ["total"]),
            helper.make_node("Cast", ["scale"], ["factor"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["total", "factor"], ["output"]),
        ],
        inputs=[
            ("input", TensorProto.FLOAT, ["N", 4]),
            ("state", TensorProto.FLOAT, [2, "N", 3]),
            ("scale", TensorProto.INT64, []),
        ],
        outputs=[
            ("output", TensorProto.FLOAT, ["N", 4]),
            ("next_state", TensorProto.FLOAT, [2, "N", 3]),
        ],
        constants={
            "first": np.array([0], dtype=np.int64),
            "columns": np.array([1], dtype=np.int64),
            "state_of_row": np.array([0, 2], dtype=np.int64),
        },
    )


def resnet50():
    """[N,3,224,224] to [N,1000], random weights: about 95 ms for a row on one core. Batchable."""
    nodes, weights = resnet.resnet50()
    return model(
        "resnet50",
        nodes,
        inputs=[("image", TensorProto.FLOAT, ["N", 3, 224, 224])],
        outputs=[("logits", TensorProto.FLOAT, ["N", resnet.CLASSES])],
        constants=weights,
    )


TEST_BUILDERS = [
    tiny_mlp,
    time_major_cumsum,
    batch_norm_like,
    fixed_batch,
    fixed_batch3,
    int64_scale,
    f16_scale,
    f64_scale,
    uint8_sum,
    slow,
    two_inputs,
    two_outputs,
    poison_row,
    recurrent,
]
BENCH_BUILDERS = [mlp784, resnet50]


def multilayer_perceptron(name, widths, seed, rows="N"):
    """A chain of Gemm and Relu with weights drawn from a fixed seed; no Relu at the end."""
    generator = np.random.default_rng(seed)
    nodes, constants, last = [], {}, "input"
    for layer, (width_in, width_out) in enumerate(itertools.pairwise(widths)):
        weights = generator.standard_normal((width_in, width_out)) / np.sqrt(width_in)
        constants[f"weights{layer}"] = weights.astype(np.float32)
        constants[f"bias{layer}"] = generator.standard_normal(width_out).astype(np.float32)
        final = layer == len(widths) - 2
        sums = "output" if final else f"sums{layer}"
        nodes.append(helper.make_node("Gemm", [last, f"weights{layer}", f"bias{layer}"], [sums]))
        if not final:
            nodes.append(helper.make_node("Relu", [sums], [f"hidden{layer}"]))
            last = f"hidden{layer}"
    return model(
        name,
        nodes,
        inputs=[("input", TensorProto.FLOAT, [rows, widths[0]])],
        outputs=[("output", TensorProto.FLOAT, [rows, widths[-1]])],
        constants=constants,
    )


def scale(name, datatype, factor):
    """[N,3] times a constant, in one datatype throughout."""
    return model(
        name,
        [helper.make_node("Mul", ["input", "factor"], ["output"])],
        inputs=[("input", datatype, ["N", 3])],
        outputs=[("output", datatype, ["N", 3])],
        constants={"factor": np.array(factor)},
    )


def model(name, nodes, inputs, outputs, constants=None):
    """Put a graph together and have the checker of onnx read it."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(*description) for description in inputs],
        [helper.make_tensor_value_info(*description) for description in outputs],
        [numpy_helper.from_array(value, key) for key, value in (constants or {}).items()],
    )
    made = helper.make_model(
        graph,
        producer_name="bench/models/make.py",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def case_inputs(name):
    """The inputs of one case: rows that differ, with signs, zeros and large numbers."""
    f32 = np.float32
    inputs = {
        "tiny_mlp": {"input": f32([[1, 2, 3], [-1.5, 0, 0.25], [100, -200, 300]])},
        "time_major_cumsum": {"input": f32([[1, 2, 3, 4], [10, 20, 30, 40], [-5, 0, 5, 0.5]])},
        "batch_norm_like": {"input": f32([[1, 2, 3, 4], [3, 2, 1, 0]])},
        "fixed_batch": {"input": f32([[0.5, -1, 2, 8]])},
        "fixed_batch3": {"input": f32([[1, 2], [3, 4], [-5, -6]])},
        "int64_scale": {"input": np.array([[1, -2, 3], [2**53 + 1, 0, -(2**60) - 1]], np.int64)},
        "f16_scale": {"input": np.array([[1, -2.5, 0.0999755859375], [1000, 0, 32]], np.float16)},
        "f64_scale": {"input": np.array([[1, -2.5, 1 / 3], [1e300, 0, 5e-324]], np.float64)},
        "uint8_sum": {"input": np.array([[0, 1, 2, 255, 255], [7, 0, 0, 0, 0]], np.uint8)},
        "slow": {"input": f32([[1, 2, 3, 4], [-0.5, 0, 1e6, 7]])},
        "two_inputs": {"a": f32([[1, 2], [3, 4]]), "b": f32([[10, 20], [30, 40]])},
        "two_outputs": {"input": f32([[1, 2, 3], [-4, 5, 0.5]])},
        "poison_row": {"index": np.array([[0], [9], [4]], np.int64)},
        "recurrent": {
            "input": f32([[1, 2, 3, 4], [-1, 0, 0.5, 8]]),
            "state": f32([[[1, 2, 3], [4, 5, 6]], [[-1, 0, 7], [0.25, 9, -2]]]),
            "scale": np.array(3, np.int64),
        },
        "iris": {
            "input": f32(
                [
                    [5.1, 3.5, 1.4, 0.2],
                    [6.2, 2.9, 4.3, 1.3],
                    [6.3, 3.3, 6.0, 2.5],
                    [6.0, 2.7, 5.1, 1.6],
                ]
            )
        },
    }
    return inputs[name]


def reference_case(name, model_bytes):
    """Inputs and ONNX Runtime's outputs of one model, ready for JSON."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model_bytes, options, providers=["CPUExecutionProvider"])
    inputs = case_inputs(name)
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, inputs), strict=True))
    return {
        "model": f"{name}.onnx",
        "inputs": [tensor(key, value) for key, value in inputs.items()],
        "outputs": [tensor(key, value) for key, value in outputs.items()],
    }


def tensor(name, value):
    """One tensor as JSON: flat data, row-major. float16 is exact as a JSON number."""
    return {
        "name": name,
        "datatype": str(value.dtype),
        "shape": list(value.shape),
        "data": [float(x) if value.dtype == np.float16 else x.item() for x in value.flatten()],
    }


def cases_json(cases):
    """Deterministic text, one tensor a line, so that a change reads well in a diff."""
    blocks = []
    for case in cases:
        lines = [f'    "model": {json.dumps(case["model"])}']
        for side in ("inputs", "outputs"):
            tensors = ",\n".join("      " + json.dumps(entry) for entry in case[side])
            lines.append(f'    "{side}": [\n{tensors}\n    ]')
        blocks.append("  {\n" + ",\n".join(lines) + "\n  }")
    return "[\n" + ",\n".join(blocks) + "\n]\n"


def test_files():
    """All files of the tests' model folder that this script writes: name to bytes."""
    files, cases = {}, []
    for build in TEST_BUILDERS:
        name = build.__name__
        files[f"{name}.onnx"] = build().SerializeToString(deterministic=True)
        cases.append(reference_case(name, files[f"{name}.onnx"]))
    iris = IRIS.read_bytes()
    # Cut in the middle: begins like a model and cannot be read to its end.
    files["corrupt.onnx"] = iris[: len(iris) // 2]
    cases.append(reference_case("iris", iris))
    files["cases.json"] = cases_json(cases).encode()
    return files


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--check", action="store_true", help="compare with the committed files")
    arguments.add_argument("--bench", type=Path, metavar="DIR", help="write the benchmark models")
    chosen = arguments.parse_args()

    if chosen.bench:
        chosen.bench.mkdir(parents=True, exist_ok=True)
        for build in BENCH_BUILDERS:
            path = chosen.bench / f"{build.__name__}.onnx"
            path.write_bytes(build().SerializeToString(deterministic=True))
            print(path)
        return
    files = test_files()
    if chosen.check:
        stale = [n for n, b in files.items() if not same(TEST_MODELS / n, b)]
        if stale:
            sys.exit(f"not what make.py writes: {', '.join(stale)}; run bench/models/make.py")
        print(f"{len(files)} files are up to date")
        return
    TEST_MODELS.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (TEST_MODELS / name).write_bytes(content)
        print(f"{TEST_MODELS / name}: {len(content)} bytes")


def same(path, content):
    return path.exists() and path.read_bytes() == content


if __name__ == "__main__":
    main()
