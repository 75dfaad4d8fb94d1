"""Requests that follow each other, by the sequence parameters of all four clients: what is kept
between them is the server's."""

import itertools

import numpy as np
import pytest
from suite.models import RUNNING_SUM
from suite.statuses import Status, refused
from suite.tensors import assert_same

pytestmark = pytest.mark.usefixtures("ours")
IDS = itertools.count(1)


@pytest.fixture
def ours(server):
    # The model is one of ONNX, whose implicit state the Python backend does not have.
    if server.is_triton:
        pytest.skip("a model with state that the server keeps is served by ONNX Runtime alone")


@pytest.fixture(params=("number", "text"))
def sequence(request):
    """An id that no other test has."""
    number = next(IDS)
    return number if request.param == "number" else f"sequence {number} of é"


def given(client, number):
    return [client.tensor("INPUT", np.array([[number]], np.float32))]


def step(client, sequence, number, start=False, end=False):
    result = client.infer(
        RUNNING_SUM.name,
        given(client, number),
        sequence_id=sequence,
        sequence_start=start,
        sequence_end=end,
    )
    assert result.as_numpy("SUM_OUT") is None, "the state is not given where it is not asked for"
    return result.as_numpy("OUTPUT")


def total(*numbers):
    """What the model answers when it has heard these: of each half as much with every step."""
    heard = np.float32(0)
    for number in numbers:
        heard = np.float32(heard / 2 + number)
    return np.array([[heard]], np.float32)


def test_each_request_knows_those_before(client, sequence):
    numbers = [3, -1, 4, 1, -5, 9, 2, 6]
    for place, number in enumerate(numbers):
        last = place == len(numbers) - 1
        answer = step(client, sequence, number, start=place == 0, end=last)
        assert_same(answer, total(*numbers[: place + 1]))
    with refused(client, Status.INVALID, says=["knows no sequence", str(sequence)]):
        step(client, sequence, 1)


def test_a_start_begins_anew(client, sequence):
    step(client, sequence, 3, start=True)
    assert_same(step(client, sequence, 5), total(3, 5))
    assert_same(step(client, sequence, 7, start=True), total(7))
    assert_same(step(client, sequence, 1, end=True), total(7, 1))


def test_the_state_may_be_asked_for(client, sequence):
    result = client.infer(
        RUNNING_SUM.name,
        given(client, 3),
        outputs=[client.wanted("SUM_OUT")],
        sequence_id=sequence,
        sequence_start=True,
    )
    assert_same(result.as_numpy("SUM_OUT"), total(3))
    assert result.as_numpy("OUTPUT") is None


def test_sequences_at_once_do_not_hear_each_other(client):
    sequences = [next(IDS) for _ in range(6)]
    for place in range(5):
        results = client.infer_all(
            (
                RUNNING_SUM.name,
                given(client, 10 * sequence + place),
                {"sequence_id": sequence, "sequence_start": place == 0, "sequence_end": place == 4},
            )
            for sequence in sequences
        )
        for sequence, result in zip(sequences, results, strict=True):
            heard = [10 * sequence + before for before in range(place + 1)]
            assert_same(result.as_numpy("OUTPUT"), total(*heard))


def test_who_names_no_sequence_gives_the_state(client):
    inputs = [*given(client, 3), client.tensor("SUM_IN", np.array([[8]], np.float32))]
    result = client.infer(RUNNING_SUM.name, inputs)
    assert_same(result.as_numpy("OUTPUT"), np.array([[7]], np.float32))
    assert_same(result.as_numpy("SUM_OUT"), np.array([[7]], np.float32))
    with refused(client, Status.INVALID, says=["SUM_IN"]):
        client.infer(RUNNING_SUM.name, given(client, 3))
    with refused(client, Status.INVALID, says=["SUM_IN"]):
        client.infer(RUNNING_SUM.name, inputs, sequence_id=next(IDS), sequence_start=True)


def test_a_stream_need_not_wait_for_answers(grpc_client, sequence):
    other = next(IDS)
    numbers = range(40)
    requests = [
        (
            RUNNING_SUM.name,
            given(grpc_client, number + shift),
            {
                "request_id": f"{shift} {number}",
                "sequence_id": which,
                "sequence_start": number == 0,
                "sequence_end": number == numbers[-1],
            },
        )
        for number in numbers
        for which, shift in ((sequence, 0), (other, 1000))
    ]
    arrived = grpc_client.stream(requests)
    assert [str(error) for _, error in arrived if error] == []
    results = {result.get_response().id: result for result, _ in arrived}
    assert len(results) == len(requests)
    for shift, number in itertools.product((0, 1000), numbers):
        heard = [before + shift for before in range(number + 1)]
        assert_same(results[f"{shift} {number}"].as_numpy("OUTPUT"), total(*heard))


def test_the_configuration_tells_of_the_state(client):
    batching = client.model_config(RUNNING_SUM.name)["sequence_batching"]
    (state,) = batching["state"]
    assert (state["input_name"], state["output_name"]) == ("SUM_IN", "SUM_OUT")
    assert batching["max_sequence_idle_microseconds"] == 60_000_000
