"""How long a request may take: what the client waits, and what the request says."""

import time

import numpy as np
import pytest
from suite.clients import CLIENTS
from suite.differences import differs
from suite.models import WAIT
from suite.statuses import Status, refused
from tritonclient.utils import InferenceServerException

LONG = 1500  # milliseconds of computation
PATIENCE = 0.3  # seconds


def wait(client, milliseconds, **settings):
    return client.infer(
        WAIT.name,
        [client.tensor("MILLISECONDS", np.array([[milliseconds]], np.int64))],
        **settings,
    )


@pytest.fixture
def impatient(server, request):
    """A client of its own: the HTTP clients are told their patience when they are made."""
    made = CLIENTS[request.param]
    client = made(server.http if made.protocol == "http" else server.grpc, patience=PATIENCE)
    yield client
    client.close()


@pytest.mark.parametrize("impatient", CLIENTS, indirect=True)
def test_a_client_that_gives_up(impatient, server):
    started = time.monotonic()
    # Each client says it in a way of its own.
    with pytest.raises((InferenceServerException, TimeoutError)) as raised:
        wait(impatient, LONG + sorted(CLIENTS).index(kind_of(impatient)))
    if impatient.protocol == "grpc":
        assert raised.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert time.monotonic() - started < LONG / 1000
    # Whoever gave up has left nothing behind that hinders the next.
    assert server.client("grpc").is_model_ready(WAIT.name)


def kind_of(client):
    return next(kind for kind, made in CLIENTS.items() if type(client) is made)


def test_a_request_that_says_how_long_it_may_take(client, server):
    # A number of its own for each client: an answer that is kept takes no time.
    milliseconds = LONG + 10 + sorted(CLIENTS).index(kind_of(client))
    if differs("timeout-of-a-run", server, ours="ends it", theirs="lets it be") == "ends it":
        started = time.monotonic()
        with refused(client, Status.TIMED_OUT, says=["deadline"]):
            wait(client, milliseconds, timeout=200_000)
        assert time.monotonic() - started < milliseconds / 1000
    else:
        result = wait(client, milliseconds, timeout=200_000)
        assert result.as_numpy("DONE").item() == milliseconds


def test_a_time_out_that_is_kept(client):
    assert wait(client, 7, timeout=30_000_000).as_numpy("DONE").item() == 7
