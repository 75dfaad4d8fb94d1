"""Requests that cannot be answered: the status, and a text that says what to change."""

import numpy as np
import pytest
from suite.differences import differs
from suite.models import ADD_SUB, IDENTITIES, LOOKUP, MIXED, VECTOR
from suite.statuses import Status, refused
from suite.tensors import assert_same, texts

ROW = np.array([[1, 2, 3, 4]], np.float32)


def test_an_unknown_model(client):
    with refused(client, Status.NOT_FOUND, says=["no_such_model"]):
        client.infer("no_such_model", [client.tensor("INPUT", ROW)])


def test_an_unknown_input(client):
    inputs = [client.tensor("INPUT0", ROW), client.tensor("INPUT9", ROW)]
    with refused(client, Status.INVALID, says=[ADD_SUB.name, "INPUT9"]):
        client.infer(ADD_SUB.name, inputs)


def test_a_missing_input(client):
    with refused(client, Status.INVALID, says=[ADD_SUB.name, "INPUT1"]):
        client.infer(ADD_SUB.name, [client.tensor("INPUT0", ROW)])


def test_an_input_given_twice(client, server):
    names = ["INPUT0", "INPUT1", "INPUT0"]
    with refused(client, Status.INVALID, says=[] if server.is_triton else ["INPUT0"]):
        client.infer(ADD_SUB.name, [client.tensor(name, ROW) for name in names])


def test_an_input_too_many(client):
    names = ["INPUT0", "INPUT1", "INPUT2"]
    with refused(client, Status.INVALID, says=[ADD_SUB.name]):
        client.infer(ADD_SUB.name, [client.tensor(name, ROW) for name in names])


def test_no_input_at_all(client):
    with refused(client, Status.INVALID):
        client.infer(ADD_SUB.name, [])


def test_an_unknown_output(client):
    inputs = [client.tensor("INPUT0", ROW), client.tensor("INPUT1", ROW)]
    with refused(client, Status.INVALID, says=["NO_SUCH_OUTPUT", ADD_SUB.name]):
        client.infer(ADD_SUB.name, inputs, [client.wanted("NO_SUCH_OUTPUT")])


@pytest.mark.parametrize("given", [np.float64, np.int32, np.float16, np.bool_])
def test_another_datatype(client, given):
    sent = client.tensor("INPUT", np.array([[1, 0]], given))
    with refused(client, Status.INVALID, says=["FP32", "INPUT"]):
        client.infer(IDENTITIES["FP32"].name, [sent])


def test_text_where_numbers_are_taken(client):
    with refused(client, Status.INVALID, says=["FP32", "BYTES"]):
        client.infer(IDENTITIES["FP32"].name, [client.tensor("INPUT", texts([b"1"]))])


def test_a_datatype_that_does_not_exist(client):
    sent = client.tensor("INPUT", ROW, datatype="FP31")
    with refused(client, Status.INVALID):
        client.infer(IDENTITIES["FP32"].name, [sent])


@pytest.mark.parametrize("shape", [(1, 3), (1, 5), (4,), (1, 1, 4)], ids=str)
def test_another_shape(client, shape):
    sent = np.zeros(shape, np.float32)
    inputs = [client.tensor("INPUT0", sent), client.tensor("INPUT1", sent)]
    with refused(client, Status.INVALID, says=["INPUT", "4"]):
        client.infer(ADD_SUB.name, inputs)


@pytest.mark.parametrize("shape", [[2, 4], [1, 3], [1, 5], [3, 2], [0, 4]], ids=str)
def test_a_shape_that_the_data_does_not_fill(client, shape):
    sent = client.tensor("INPUT", ROW, shape=shape)
    with refused(client, Status.INVALID, says=["INPUT"]):
        client.infer(IDENTITIES["FP32"].name, [sent])


@pytest.mark.parametrize("shape", [[-1, 4], [2**60, 2**60], [2**31, 2**31]], ids=str)
def test_a_shape_that_no_tensor_has(client, server, shape):
    sent = client.tensor("INPUT", ROW, shape=shape)
    theirs = Status.FAILED if client.protocol == "http" and shape[0] < 0 else Status.INVALID
    status = differs("negative-shape", server, ours=Status.INVALID, theirs=theirs)
    with refused(client, status):
        client.infer(IDENTITIES["FP32"].name, [sent])


def test_inputs_that_do_not_fit_together(client):
    two = np.zeros((2, 4), np.float32)
    with refused(client, Status.INVALID, says=[ADD_SUB.name]):
        client.infer(ADD_SUB.name, [client.tensor("INPUT0", ROW), client.tensor("INPUT1", two)])


def test_more_rows_than_the_largest_batch(client, server):
    sent = np.arange(36, dtype=np.float32).reshape(9, 4)
    inputs = [client.tensor("INPUT0", sent), client.tensor("INPUT1", sent)]
    if differs("rows-over-max-batch-size", server, ours="run alone", theirs="refused") == "refused":
        with refused(client, Status.INVALID, says=["8", ADD_SUB.name]):
            client.infer(ADD_SUB.name, inputs)
    else:
        assert_same(client.infer(ADD_SUB.name, inputs).as_numpy("SUM"), sent + sent)


def blame(server):
    """A run that fails for one input while others pass is the input's fault here."""
    return differs("failed-run", server, ours=Status.INVALID, theirs=Status.FAILED)


def test_a_run_that_fails(client, server):
    sent = client.tensor("INDICES", np.array([3, 10], np.int64))
    with refused(client, blame(server), says=["10"]):
        client.infer(LOOKUP.name, [sent])


def test_one_that_fails_does_no_harm_to_the_next(client, server):
    bad, good = np.array([11], np.int64), np.array([1, 9], np.int64)
    for _ in range(3):
        with refused(client, blame(server)):
            client.infer(LOOKUP.name, [client.tensor("INDICES", bad)])
        result = client.infer(LOOKUP.name, [client.tensor("INDICES", good)])
        assert_same(result.as_numpy("VALUES"), np.array([0.5, 4.5], np.float32))


def test_not_all_texts_of_a_tensor(client):
    sent = client.tensor("TEXTS", texts([b"one", b"two"], (2,)), shape=[3])
    others = [
        client.tensor("FLAGS", np.array([True])),
        client.tensor("NUMBERS", np.array([1], np.int64)),
        client.tensor("HALVES", np.array([1], np.float16)),
    ]
    with refused(client, Status.INVALID, says=["TEXTS"]):
        client.infer(MIXED.name, [*others, sent])


@pytest.mark.parametrize("name", ["../vector", "vector/../add_sub", "a b", "", "ü"])
def test_a_name_that_no_model_has(client, name):
    with refused(client, Status.NOT_FOUND, Status.INVALID):
        client.infer(name, [client.tensor("INPUT", np.zeros(1, np.float32))])


def test_a_version_that_is_no_number(client, server):
    # Here it may be an alias.
    sent = client.tensor("INPUT", np.zeros(1, np.float32))
    over_grpc = client.protocol == "grpc"
    status, says = differs(
        "version-that-is-no-number",
        server,
        ours=(Status.NOT_FOUND, "newest"),
        theirs=(Status.INVALID, "newest") if over_grpc else (Status.NOT_FOUND, "Not Found"),
    )
    with refused(client, status, says=[says]):
        client.infer(VECTOR.name, [sent], version="newest")
