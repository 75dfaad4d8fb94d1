"""Many requests over one gRPC stream: each has its answer or its error, and the stream goes on."""

import numpy as np
from suite.differences import differs
from suite.models import ADD_SUB, IDENTITIES, LOOKUP, VECTOR
from suite.statuses import tells
from suite.tensors import assert_same, texts


def vector(client, *numbers):
    return [client.tensor("INPUT", np.array(numbers, np.float32))]


def answers(arrived):
    """The results by their request's id; no error is among them."""
    assert [str(error) for _, error in arrived if error] == []
    return {result.get_response().id: result for result, _ in arrived}


def test_every_request_has_its_answer(grpc_client):
    requests = [
        (VECTOR.name, vector(grpc_client, number), {"request_id": f"r{number}"})
        for number in range(50)
    ]
    results = answers(grpc_client.stream(requests))
    assert len(results) == 50
    for number in range(50):
        assert_same(results[f"r{number}"].as_numpy("OUTPUT"), np.array([number], np.float32))


def test_several_models_over_one_stream(grpc_client):
    row = np.array([[1, 2, 3, 4]], np.float32)
    words = texts([b"a\x00", b"b"])
    requests = [
        (VECTOR.name, vector(grpc_client, 5), {"request_id": "vector"}),
        (
            ADD_SUB.name,
            [grpc_client.tensor("INPUT0", row), grpc_client.tensor("INPUT1", row)],
            {"request_id": "sum", "outputs": [grpc_client.wanted("SUM")]},
        ),
        (
            IDENTITIES["BYTES"].name,
            [grpc_client.tensor("INPUT", words)],
            {"request_id": "texts", "model_version": "1"},
        ),
    ]
    results = answers(grpc_client.stream(requests))
    assert_same(results["vector"].as_numpy("OUTPUT"), np.array([5], np.float32))
    assert_same(results["sum"].as_numpy("SUM"), row * 2)
    assert results["sum"].as_numpy("DIFFERENCE") is None
    assert_same(results["texts"].as_numpy("OUTPUT"), words)


def test_an_error_is_the_requests_own(grpc_client, server):
    bad = [
        ("no_such_model", vector(grpc_client, 1), {"request_id": "bad model"}),
        (VECTOR.name, vector(grpc_client, 1), {"request_id": "bad version", "model_version": "7"}),
        (
            VECTOR.name,
            [grpc_client.tensor("INPUT", np.array([1], np.int32))],
            {"request_id": "bad datatype"},
        ),
        (
            LOOKUP.name,
            [grpc_client.tensor("INDICES", np.array([99], np.int64))],
            {"request_id": "failed run"},
        ),
    ]
    good = [(VECTOR.name, vector(grpc_client, n), {"request_id": f"good {n}"}) for n in range(4)]
    mixed = [one for pair in zip(good, bad, strict=True) for one in pair]
    # The last one has no id.
    arrived = grpc_client.stream([*mixed, (VECTOR.name, vector(grpc_client, 9), {})])
    errors = [error for _, error in arrived if error]
    results = [result.get_response().id for result, error in arrived if not error]
    goods = {f"good {n}" for n in range(4)}
    assert goods < set(results)
    (made,) = set(results) - goods
    assert bool(made) is differs("made-ids", server, ours=True, theirs=False)
    assert len(errors) == len(bad)
    together = "\n".join(error.message() for error in errors)
    tells(together, ["no_such_model", "7", "FP32", "99"])


def test_compressed_streams(grpc_client):
    sent = np.arange(4000, dtype=np.float32)
    results = grpc_client.stream(
        [(VECTOR.name, [grpc_client.tensor("INPUT", sent)], {"request_id": "1"})],
        compression_algorithm="gzip",
    )
    assert_same(answers(results)["1"].as_numpy("OUTPUT"), sent)


def test_a_stream_after_a_stream(grpc_client):
    for number in range(3):
        (arrived,) = grpc_client.stream([(VECTOR.name, vector(grpc_client, number), {})])
        assert_same(arrived[0].as_numpy("OUTPUT"), np.array([number], np.float32))
