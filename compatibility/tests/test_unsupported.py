"""What Triton has and `inferring` has not: refused in words, never answered wrongly."""

import numpy as np
import pytest
from suite.differences import differs
from suite.models import IDENTITIES
from suite.statuses import Status, refused

SENT = np.array([[0.1, 0.7, 0.2]], np.float32)


def test_classification(client, server):
    def classify():
        return client.infer(
            IDENTITIES["FP32"].name,
            [client.tensor("INPUT", SENT)],
            [client.wanted("OUTPUT", class_count=2)],
        )

    if differs("classification", server, ours=False, theirs=True):
        assert list(classify().as_numpy("OUTPUT")) == [b"0.700000:1", b"0.200000:2"]
    else:
        with refused(client, Status.UNIMPLEMENTED, says=["classification"]):
            classify()


SHARED_MEMORY_CALLS = {
    "get_system_shared_memory_status": (),
    "register_system_shared_memory": ("region", "/no_such_key", 16),
    "unregister_system_shared_memory": ("region",),
    "get_cuda_shared_memory_status": (),
    "register_cuda_shared_memory": ("region", b"AAAA", 0, 16),
    "unregister_cuda_shared_memory": ("region",),
}


@pytest.mark.parametrize("method", SHARED_MEMORY_CALLS)
def test_shared_memory(client, server, method):
    arguments = SHARED_MEMORY_CALLS[method]
    if differs("shared-memory", server, ours=True, theirs=False):
        with refused(client, Status.UNIMPLEMENTED, says=["shared memory"]):
            client.other(method, *arguments)
    elif method.startswith("register"):
        with refused(client, Status.INVALID, Status.FAILED):
            client.other(method, *arguments)
    else:
        client.other(method, *arguments)


def test_an_input_in_shared_memory(client, server):
    given = client.tensor("INPUT", SENT)
    given.set_shared_memory("no_such_region", SENT.nbytes)
    status = differs("shared-memory", server, ours=Status.UNIMPLEMENTED, theirs=Status.NOT_FOUND)
    with refused(client, status, says=["shared memory"]):
        client.infer(IDENTITIES["FP32"].name, [given])


def test_an_output_in_shared_memory(client, server):
    wanted = client.wanted("OUTPUT")
    wanted.set_shared_memory("no_such_region", SENT.nbytes)
    status = differs("shared-memory", server, ours=Status.UNIMPLEMENTED, theirs=Status.NOT_FOUND)
    with refused(client, status, says=["shared memory"]):
        client.infer(IDENTITIES["FP32"].name, [client.tensor("INPUT", SENT)], [wanted])


SETTINGS_CALLS = {
    "get_trace_settings": (),
    "update_trace_settings": (None, {"trace_rate": "1000"}),
    "get_log_settings": (),
    "update_log_settings": ({"log_verbose_level": 0},),
}


@pytest.mark.parametrize("method", SETTINGS_CALLS)
def test_trace_and_log_settings(client, server, method):
    arguments = SETTINGS_CALLS[method]
    if differs("trace-and-log-settings", server, ours=True, theirs=False):
        what = "trace" if "trace" in method else "log"
        with refused(client, Status.UNIMPLEMENTED, says=[what]):
            client.other(method, *arguments)
    else:
        assert client.other(method, *arguments)


@pytest.mark.parametrize("sequence", [7, "seven"])
def test_a_sequence(client, server, sequence):
    """A model that keeps nothing between requests: to say that one belongs to a sequence would mean
    to expect that."""

    def ask():
        return client.infer(
            IDENTITIES["FP32"].name,
            [client.tensor("INPUT", SENT)],
            sequence_id=sequence,
            sequence_start=True,
            sequence_end=True,
        )

    if differs("sequences", server, ours=True, theirs=False):
        with refused(client, Status.INVALID, says=["sequence_id"]):
            ask()
    else:
        ask()
