"""Models that people use, and calls of them as people make them."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

FETCHED = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "inferring" / "models"
PACKAGED = Path(onnxruntime.__file__).parent / "datasets"


@dataclass(frozen=True)
class RealModel:
    """A model file, and how a call of it is made up."""

    name: str
    path: Path
    make: Callable
    """`make(random, rows, size)`: the inputs by name, for so many rows; `size` is whatever else
    may vary: a length, a width."""
    sizes: tuple
    joins: bool
    """Whether rows of different requests may share a run."""
    config: str = ""
    """The model's config.toml, where it needs one."""

    def write(self, repository):
        """Lays the model into a folder of models."""
        place = repository / self.name / "1"
        place.mkdir(parents=True)
        (place / "model.onnx").write_bytes(self.path.read_bytes())
        if self.config:
            (repository / self.name / "config.toml").write_text(self.config)


def sentences(*more):
    """Token ids padded to one length, as a tokenizer gives them."""

    def make(random, rows, length):
        ids = random.integers(1000, 30000, (rows, length))
        mask = np.arange(length) < random.integers(length // 2, length + 1, (rows, 1))
        inputs = {"input_ids": ids * mask, "attention_mask": mask.astype(np.int64)}
        return inputs | {name: np.zeros((rows, length), np.int64) for name in more}

    return make


def beginnings_of_files(random, rows, _):
    return {"bytes": random.integers(0, 257, (rows, 2048), dtype=np.int32)}


def images(random, rows, size):
    """Normalised pixels; `size` is height and width."""
    return {"x": random.normal(size=(rows, 3, *size)).astype(np.float32)}


def audio(random, rows, samples):
    """A tone in noise, with the silence that silero starts from."""
    time = np.arange(samples) / 16000
    pitch = random.uniform(100, 400, (rows, 1))
    tone = np.sin(2 * np.pi * pitch * time) + random.normal(scale=0.1, size=(rows, samples))
    return {
        "input": (tone * random.uniform(0.05, 0.5, (rows, 1))).astype(np.float32),
        "state": np.zeros((2, rows, 128), np.float32),
        "sr": np.array(RATES[samples], np.int64),
    }


# Samples in a window, the context of the window before included: samples in a second.
RATES = {576: 16000, 288: 8000}


def audio_in_time(random, windows, _):
    """Windows that follow each other: the first dimension is time."""
    return {
        "input": random.normal(scale=0.1, size=(windows, 576)).astype(np.float32),
        "h": np.zeros((1, 1, 128), np.float32),
        "c": np.zeros((1, 1, 128), np.float32),
    }


# What silero's own shapes cannot say: its state holds the rows along the second axis.
STATE_ON_AXIS_1 = """\
[batching]
mode = "rows"

[inputs.input]
batch_axis = 0

[inputs.state]
batch_axis = 1

[inputs.sr]
batch_axis = "none"

[outputs.output]
batch_axis = 0

[outputs.stateN]
batch_axis = 1
"""


def padded(inputs, outputs):
    """The settings of a model whose inputs and outputs are as long as their sentences."""
    lines = ["[inputs]"]
    lines += [f'"{name}".padding = {{ axis = 1, value = 0 }}' for name in inputs]
    lines += ["[outputs]"]
    lines += [f'"{name}".padded_axis = 1' for name in outputs]
    return "\n".join(lines) + "\n"


MINILM = RealModel("minilm", FETCHED / "minilm/minilm.onnx", sentences(), (8, 32, 100), True)
MINILM_INT8 = RealModel(
    "minilm_int8",
    FETCHED / "minilm-int8/minilm_int8.onnx",
    sentences("token_type_ids"),
    (8, 32, 100),
    True,
)
MINILM_PADDED = RealModel(
    "minilm_padded",
    MINILM.path,
    sentences(),
    (32,),
    True,
    padded(("input_ids", "attention_mask"), ("output", "463", "onnx::Shape_422")),
)
MINILM_INT8_PADDED = RealModel(
    "minilm_int8_padded",
    MINILM_INT8.path,
    sentences("token_type_ids"),
    (32,),
    True,
    padded(("input_ids", "attention_mask", "token_type_ids"), ("last_hidden_state",)),
)
MAGIKA = RealModel("magika", FETCHED / "magika/magika.onnx", beginnings_of_files, (None,), True)
ORIENTATION = RealModel(
    "orientation", FETCHED / "orientation/orientation.onnx", images, ((224, 224),), True
)
OCR_CLS = RealModel(
    "ocr_cls", FETCHED / "paddle-ocr/ocr_cls.onnx", images, ((48, 192), (32, 100)), True
)
OCR_DET = RealModel(
    "ocr_det", FETCHED / "paddle-ocr/ocr_det.onnx", images, ((64, 96), (160, 224)), True
)
OCR_REC = RealModel(
    "ocr_rec", FETCHED / "paddle-ocr/ocr_rec.onnx", images, ((48, 96), (48, 320)), True
)
SILERO_FILE = FETCHED / "silero/silero_vad.onnx"
SILERO = RealModel("silero", SILERO_FILE, audio, (576, 288), False)
SILERO_DECLARED = RealModel(
    "silero_declared", SILERO_FILE, audio, (576, 288), True, STATE_ON_AXIS_1
)
SILERO_SEQUENCE = RealModel(
    "silero_sequence",
    FETCHED / "silero/silero_vad_16k_sequence.onnx",
    audio_in_time,
    (None,),
    False,
)

MODELS = (
    MINILM,
    MINILM_INT8,
    MINILM_PADDED,
    MINILM_INT8_PADDED,
    MAGIKA,
    ORIENTATION,
    OCR_CLS,
    OCR_DET,
    OCR_REC,
    SILERO,
    SILERO_DECLARED,
    SILERO_SEQUENCE,
)
