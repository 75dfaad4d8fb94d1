"""The settings of a request: ids, versions, compression, parameters; and many at once."""

import numpy as np
import pytest
from suite.models import ADD_SUB, ALIASED, LATEST, VECTOR, VERSIONED
from suite.statuses import Status, refused
from suite.tensors import assert_same, values


def vector(*numbers):
    return np.array(numbers, np.float32)


def test_sums_and_differences(client):
    left, right = vector(1, 2, 3, 4).reshape(1, 4), vector(10, 20, 30, 40).reshape(1, 4)
    inputs = [client.tensor("INPUT0", left), client.tensor("INPUT1", right)]
    result = client.infer(ADD_SUB.name, inputs)
    assert_same(result.as_numpy("SUM"), left + right)
    assert_same(result.as_numpy("DIFFERENCE"), left - right)


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_rows_up_to_the_largest_batch(client, rows):
    left = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    inputs = [client.tensor("INPUT0", left), client.tensor("INPUT1", -left)]
    assert_same(client.infer(ADD_SUB.name, inputs).as_numpy("DIFFERENCE"), left * 2)


def test_a_request_id_comes_back(client):
    result = client.infer(
        VECTOR.name, [client.tensor("INPUT", vector(1))], request_id="id-1 with ä and /"
    )
    assert client.answer(result)["id"] == "id-1 with ä and /"


def test_an_answer_names_model_and_version(client):
    result = client.infer(LATEST.name, [client.tensor("INPUT", vector(0))])
    assert client.answer(result)["model_name"] == LATEST.name
    assert client.answer(result)["model_version"] == "10"
    assert_same(result.as_numpy("OUTPUT"), vector(10))


@pytest.mark.parametrize(("asked", "served"), [("", 3), ("1", 1), ("3", 3)])
def test_a_version_that_is_served(client, asked, served):
    result = client.infer(VERSIONED.name, [client.tensor("INPUT", vector(0.5))], version=asked)
    assert_same(result.as_numpy("OUTPUT"), vector(0.5 + served))
    assert client.answer(result)["model_version"] == str(served)


@pytest.mark.parametrize("asked", ["2", "4", "99"])
def test_a_version_that_is_not_served(client, asked):
    with refused(client, Status.NOT_FOUND, says=[VERSIONED.name, asked]):
        client.infer(VERSIONED.name, [client.tensor("INPUT", vector(0))], version=asked)


def test_an_alias_stands_for_its_version(client, server):
    if server.is_triton:
        pytest.skip("has no aliases")
    for alias, version in ALIASED.aliases:
        result = client.infer(ALIASED.name, [client.tensor("INPUT", vector(0))], version=alias)
        assert_same(result.as_numpy("OUTPUT"), vector(version))
        assert client.answer(result)["model_version"] == str(version)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [1, 5000])
def test_compressed_there_and_back(client, algorithm, size):
    sent = np.arange(size, dtype=np.float32)
    result = client.infer(VECTOR.name, [client.tensor("INPUT", sent)], compression=algorithm)
    assert_same(result.as_numpy("OUTPUT"), sent)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("direction", ["request", "response"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_compressed_one_way(http_client, algorithm, direction, binary):
    sent = np.arange(3000, dtype=np.float32)
    result = http_client.infer(
        VECTOR.name,
        [http_client.tensor("INPUT", sent, binary=binary)],
        [http_client.wanted("OUTPUT", binary=binary)],
        **{f"{direction}_compression_algorithm": algorithm},
    )
    assert_same(result.as_numpy("OUTPUT"), sent)


def test_parameters_that_mean_nothing_are_let_pass(client):
    sent = vector(1, 2)
    result = client.infer(
        VECTOR.name,
        [client.tensor("INPUT", sent)],
        priority=1,
        parameters={"a_text": "x", "a_number": 3, "a_flag": True},
    )
    assert_same(result.as_numpy("OUTPUT"), sent)


def test_many_at_once_reach_their_own_callers(client):
    sent = [values("FP32", (1, 4)) * 0 + number for number in range(32)]
    requests = [
        (
            ADD_SUB.name,
            [client.tensor("INPUT0", one), client.tensor("INPUT1", one)],
            {"request_id": str(number)},
        )
        for number, one in enumerate(sent)
    ]
    results = client.infer_all(requests)
    assert [client.answer(one)["id"] for one in results] == [str(n) for n in range(len(sent))]
    for one, result in zip(sent, results, strict=True):
        assert_same(result.as_numpy("SUM"), one + one)
