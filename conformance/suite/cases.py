"""The conformance cases that the onnx package carries, with what they take and should give."""

import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case import node
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

# The kinds whose models and values are files.
KINDS_ON_DISK = ("simple", "pytorch-converted", "pytorch-operator")


@dataclass(frozen=True)
class DataSet:
    """One call of a model."""

    inputs: list
    """A value for each input, in the model's order: an array, or what else the input takes."""
    expected: list
    """A value for each output, in the model's order."""


@dataclass(frozen=True)
class Case:
    """A model, calls of it, and how near its answers must come."""

    name: str
    kind: str
    model: onnx.ModelProto
    data_sets: list
    rtol: float
    atol: float

    @property
    def inputs(self):
        """What must be given; initializers that could be given too are left at their value."""
        given = {initializer.name for initializer in self.model.graph.initializer}
        return [value for value in self.model.graph.input if value.name not in given]

    @property
    def outputs(self):
        return list(self.model.graph.output)

    def feeds(self, data_set):
        """The inputs by name."""
        names = (value.name for value in self.inputs)
        return dict(zip(names, data_set.inputs, strict=True))


def all_cases():
    """Every case, by name within its kind."""
    on_disk = (case for kind in KINDS_ON_DISK for case in cases_on_disk(kind))
    cases = [*node_cases(), *on_disk, *whole_networks()]
    names = {case.name for case in cases}
    assert len(names) == len(cases), "two cases have one name: a model would hide the other"
    return cases


def node_cases():
    """Cases of one operator each, which the package makes up anew."""
    with warnings.catch_warnings():
        # The package computes infinities on purpose.
        warnings.simplefilter("ignore", RuntimeWarning)
        made = node.collect_testcases(None)
    return [
        Case(
            name=case.name,
            kind="node",
            model=case.model,
            data_sets=[
                DataSet([value_of(value) for value in inputs], [value_of(v) for v in expected])
                for inputs, expected in case.data_sets
            ],
            rtol=case.rtol,
            atol=case.atol,
        )
        for case in sorted(made, key=lambda case: case.name)
    ]


def cases_on_disk(kind):
    """Cases that lie in the package as files."""
    for case in sorted(load_model_tests(kind=kind), key=lambda case: case.name):
        folder = Path(case.model_dir)
        model = onnx.load(folder / "model.onnx")
        data_sets = [
            DataSet(
                read_values(part, "input", model.graph.input),
                read_values(part, "output", model.graph.output),
            )
            for part in sorted(folder.glob("test_data_set_*"))
        ]
        yield Case(case.name, kind, model, data_sets, case.rtol, case.atol)


def whole_networks():
    """Networks like ResNet and VGG. The package has their graphs and answers; the weights are
    constants, so that the files are small, and the inputs are made up by its runner."""
    root = Path(onnx.__file__).parent.parent
    for case in sorted(load_model_tests(kind="real"), key=lambda case: case.name):
        path = root / case.url
        model = onnx.load(path)
        whole = Case(case.name, "real", model, [], case.rtol, case.atol)
        inputs = [Runner.generate_dummy_data(value) for value in whole.inputs]
        expected = [
            read_value(path.with_name(f"{path.stem}_output_{number}.pb").read_bytes(), value.type)
            for number, value in enumerate(whole.outputs)
        ]
        yield replace(whole, data_sets=[DataSet(inputs, expected)])


def read_values(folder, prefix, declared):
    count = len(list(folder.glob(f"{prefix}_*.pb")))
    paths = [folder / f"{prefix}_{number}.pb" for number in range(count)]
    return [
        read_value(path.read_bytes(), value.type)
        for path, value in zip(paths, declared[:count], strict=True)
    ]


def read_value(content, declared):
    kind = declared.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(content))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(content))
    return numpy_helper.to_array(onnx.TensorProto.FromString(content))


def value_of(value):
    """A value as ONNX Runtime's Python API takes it."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value
