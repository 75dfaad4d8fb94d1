"""Servers for the tests of real models: workers, and a gateway before them."""

import contextlib
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
    """The address of a worker, and of a gateway over it and maybe others."""

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
    """Servers as they are by default: who comes to an idle model is answered at once. The gateway
    has two workers, so that an answer is found in a cache again only if equal requests meet at
    the same worker."""
    with contextlib.ExitStack() as running:
        log = tmp_path_factory.mktemp("prompt") / "log"
        yield start(running, repository, log, workers=2)


@pytest.fixture(scope="session")
def patient(repository, tmp_path_factory):
    """Servers that hold requests back until a run is full. The gateway has one worker, so that
    all rows meet there."""
    with contextlib.ExitStack() as running:
        log = tmp_path_factory.mktemp("patient") / "log"
        yield start(running, repository, log, workers=1, settings=UNTIL_FULL)


def start(running, repository, log, workers, settings=()):
    binary = os.environ["INFERRING"]
    worker = [binary, "worker", str(repository)]
    places = [
        running.enter_context(Inferring(*worker, settings=settings, log=log)).address
        for _ in range(workers)
    ]
    gateway = running.enter_context(Inferring(binary, "gateway", *places, log=log))
    return Servers(places[0], gateway.address)


@pytest.fixture(params=("worker", "gateway"))
def entry(request):
    """Through which of the two a test asks."""
    return request.param
