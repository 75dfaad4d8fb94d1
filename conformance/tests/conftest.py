"""Servers for the tests of real models: two workers, each with a gateway before it."""

import os
from dataclasses import dataclass

import pytest
from suite.processes import Inferring
from suite.real_models import MODELS, PACKAGED

ROWS_PER_RUN = 4

# A batch leaves when it is full, so that requests sent at once are sure to share a run; the
# patience is there to end a test that would otherwise wait for ever.
UNTIL_FULL = (
    "worker.batching.dispatch_when_idle=false",
    f"worker.batching.size_max={ROWS_PER_RUN}",
    "worker.batching.delay_max=20s",
)


@dataclass(frozen=True)
class Servers:
    """A worker, and a gateway that has only this worker."""

    worker: str
    gateway: str


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for model in MODELS:
        model.write(folder)
    place = folder / "logreg_iris" / "1"
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes((PACKAGED / "logreg_iris.onnx").read_bytes())
    return folder


@pytest.fixture(scope="session")
def prompt(repository, tmp_path_factory):
    """Servers as they are by default: who comes to an idle model is answered at once."""
    yield from servers(repository, (), tmp_path_factory.mktemp("prompt") / "log")


@pytest.fixture(scope="session")
def patient(repository, tmp_path_factory):
    """Servers that hold requests back until a run is full."""
    yield from servers(repository, UNTIL_FULL, tmp_path_factory.mktemp("patient") / "log")


def servers(repository, settings, log):
    binary = os.environ["INFERRING"]
    with (
        Inferring(binary, "worker", str(repository), settings=settings, log=log) as worker,
        Inferring(binary, "gateway", worker.address, log=log) as gateway,
    ):
        yield Servers(worker.address, gateway.address)


@pytest.fixture(params=("worker", "gateway"))
def entry(request):
    """Through which of the two a test asks."""
    return request.param
