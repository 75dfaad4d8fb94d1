"""The models that every server serves, each written down twice.

`inferring` gets a model as ONNX; the real Triton server, whose wheel brings no ONNX Runtime,
gets the same computation for its Python backend. Both come with the same `config.pbtxt` but for
the line that names the backend, so that what differs between the answers is the server.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from . import graphs, python_backend

INFERRING = "onnxruntime"
TRITON = "python"


@dataclass(frozen=True)
class Tensor:
    """An input or output. `dims` are without the batch dimension; -1 is any size."""

    name: str
    datatype: str
    dims: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """One model: what it takes and gives, and how to make its files for either server."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    onnx: Callable[["Model", int], bytes]
    python: str
    batch_size_max: int = 0
    versions: tuple[int, ...] = (1,)
    settings: str = ""
    inferring_only: bool = False
    aliases: tuple[tuple[str, int], ...] = ()

    def named(self, name):
        return replace(self, name=name)

    def shape(self, tensor):
        """The shape that metadata tells: with the batch dimension where there is one."""
        return [-1, *tensor.dims] if self.batch_size_max else list(tensor.dims)

    def config(self, backend):
        """The text of `config.pbtxt`."""
        lines = [
            f'name: "{self.name}"',
            f'backend: "{backend}"',
            f"max_batch_size: {self.batch_size_max}",
        ]
        for kind, tensors in (("input", self.inputs), ("output", self.outputs)):
            for one in tensors:
                dims = ", ".join(map(str, one.dims))
                lines.append(
                    f'{kind} {{ name: "{one.name}" data_type: {type_name(one.datatype)} '
                    f"dims: [ {dims} ] }}"
                )
        return "\n".join([*lines, self.settings, ""])

    def config_json(self, backend, **changes):
        """The same as JSON, as a load request carries it, with other values for some keys."""
        config = {
            "name": self.name,
            "backend": backend,
            "max_batch_size": self.batch_size_max,
            "input": [tensor_json(one) for one in self.inputs],
            "output": [tensor_json(one) for one in self.outputs],
        }
        return json.dumps(config | changes)

    def content(self, backend, version):
        """The bytes of the file that holds one version."""
        if backend == TRITON:
            return python_backend.source(self, version).encode()
        return self.onnx(self, version)

    def files(self, backend, *versions):
        """Versions as a load request carries them."""
        return {
            f"file:{version}/{file_name(backend)}": self.content(backend, version)
            for version in versions
        }

    def write(self, repository: Path, backend):
        """Lays the model into a repository."""
        folder = repository / self.name
        for version in self.versions:
            place = folder / str(version)
            place.mkdir(parents=True, exist_ok=True)
            (place / file_name(backend)).write_bytes(self.content(backend, version))
        if self.aliases:
            aliases = "".join(f"{alias} = {version}\n" for alias, version in self.aliases)
            (folder / "config.toml").write_text(f"[aliases]\n{aliases}")
        else:
            (folder / "config.pbtxt").write_text(self.config(backend))


def file_name(backend):
    return "model.py" if backend == TRITON else "model.onnx"


def type_name(datatype):
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def tensor_json(tensor):
    return {
        "name": tensor.name,
        "data_type": type_name(tensor.datatype),
        "dims": list(tensor.dims),
    }


DATATYPES = (
    *("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
    *("FP16", "FP32", "FP64", "BF16", "BYTES"),
)


def identity(datatype):
    """Gives back what it gets: [rows, columns] of any size."""
    return Model(
        name=f"identity_{datatype.lower()}",
        inputs=(Tensor("INPUT", datatype, (-1, -1)),),
        outputs=(Tensor("OUTPUT", datatype, (-1, -1)),),
        onnx=graphs.identity,
        python=python_backend.IDENTITY,
    )


IDENTITIES = {datatype: identity(datatype) for datatype in DATATYPES}

# Several inputs and outputs, rows that may be joined.
ADD_SUB = Model(
    name="add_sub",
    inputs=(Tensor("INPUT0", "FP32", (4,)), Tensor("INPUT1", "FP32", (4,))),
    outputs=(Tensor("SUM", "FP32", (4,)), Tensor("DIFFERENCE", "FP32", (4,))),
    onnx=graphs.add_sub,
    python=python_backend.ADD_SUB,
    batch_size_max=8,
    settings="dynamic_batching { }",
)

# Inputs of several datatypes, outputs in the opposite order: raw contents go by position.
MIXED = Model(
    name="mixed",
    inputs=(
        Tensor("FLAGS", "BOOL", (-1,)),
        Tensor("NUMBERS", "INT64", (-1,)),
        Tensor("TEXTS", "BYTES", (-1,)),
        Tensor("HALVES", "FP16", (-1,)),
    ),
    outputs=(
        Tensor("HALVES_OUT", "FP16", (-1,)),
        Tensor("TEXTS_OUT", "BYTES", (-1,)),
        Tensor("NUMBERS_OUT", "INT64", (-1,)),
        Tensor("FLAGS_OUT", "BOOL", (-1,)),
    ),
    onnx=graphs.mixed,
    python=python_backend.MIXED,
)

# One tensor in, one out, one dynamic dimension: what a raw body without a head can say.
VECTOR = Model(
    name="vector",
    inputs=(Tensor("INPUT", "FP32", (-1,)),),
    outputs=(Tensor("OUTPUT", "FP32", (-1,)),),
    onnx=graphs.identity,
    python=python_backend.IDENTITY,
)

# A tensor without dimensions.
SCALAR = Model(
    name="scalar",
    inputs=(Tensor("INPUT", "FP64", ()),),
    outputs=(Tensor("OUTPUT", "FP64", ()),),
    onnx=graphs.identity,
    python=python_backend.IDENTITY,
    inferring_only=True,
)


def adds_its_version(name, versions, settings, aliases=()):
    """Adds the number of its version: an answer tells which version gave it."""
    return Model(
        name=name,
        inputs=(Tensor("INPUT", "FP32", (-1,)),),
        outputs=(Tensor("OUTPUT", "FP32", (-1,)),),
        onnx=graphs.add_version,
        python=python_backend.ADD_VERSION,
        versions=versions,
        settings=settings,
        aliases=aliases,
    )


# Two of three versions are served.
VERSIONED = adds_its_version(
    "versioned",
    versions=(1, 2, 3),
    settings="version_policy { specific { versions: [ 1, 3 ] } }",
)
# Version 10 is newer than version 9, though not by its letters.
LATEST = adds_its_version("latest", versions=(9, 10), settings="")
# Versions that have names; no key of Triton's configuration says so.
ALIASED = replace(
    adds_its_version("aliased", (4, 5), "", aliases=(("stable", 4), ("canary", 5))),
    inferring_only=True,
)

# Takes as long as it is told, and lets a request say how long it waits.
WAIT = Model(
    name="wait",
    inputs=(Tensor("MILLISECONDS", "INT64", (1,)),),
    outputs=(Tensor("DONE", "INT64", (1,)),),
    onnx=graphs.wait,
    python=python_backend.WAIT,
    batch_size_max=1,
    settings=(
        "dynamic_batching { default_queue_policy { "
        "timeout_action: REJECT allow_timeout_override: true } }\n"
        # So that it takes about as long on many cores.
        'parameters { key: "intra_op_thread_count" value: { string_value: "1" } }'
    ),
)

# Looks up a table of ten: an index outside of it fails the run, not the request's check.
LOOKUP = Model(
    name="lookup",
    inputs=(Tensor("INDICES", "INT64", (-1,)),),
    outputs=(Tensor("VALUES", "FP32", (-1,)),),
    onnx=graphs.lookup,
    python=python_backend.LOOKUP,
)

# Answers are kept.
CACHED = Model(
    name="cached",
    inputs=(Tensor("INPUT", "FP32", (-1,)),),
    outputs=(Tensor("OUTPUT", "FP32", (-1,)),),
    onnx=graphs.identity,
    python=python_backend.IDENTITY,
    settings="response_cache { enable: true }",
)

# Hears half of what it has heard before: the state is kept by the server, or sent along.
RUNNING_SUM = Model(
    name="running_sum",
    inputs=(Tensor("INPUT", "FP32", (1,)), Tensor("SUM_IN", "FP32", (1,))),
    outputs=(Tensor("OUTPUT", "FP32", (1,)), Tensor("SUM_OUT", "FP32", (1,))),
    onnx=graphs.running_sum,
    python="",
    batch_size_max=8,
    settings=(
        "sequence_batching { max_sequence_idle_microseconds: 60000000 oldest { } "
        'state { input_name: "SUM_IN" output_name: "SUM_OUT" data_type: TYPE_FP32 dims: [ 1 ] } }'
    ),
    inferring_only=True,
)

# What the tests of load and unload take copies of.
LIFE = adds_its_version("life", versions=(1,), settings="")

MODELS = (
    *IDENTITIES.values(),
    *(ADD_SUB, MIXED, VECTOR, SCALAR, VERSIONED, LATEST, ALIASED, WAIT, LOOKUP, CACHED),
    RUNNING_SUM,
)
