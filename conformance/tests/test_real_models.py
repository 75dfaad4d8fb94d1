"""Real models through worker and gateway: the answers are those of ONNX Runtime's Python API,
alone, together with others' rows, and out of the cache."""

import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import onnx
import pytest
from suite import nontensor, python_api
from suite.compare import difference, identical
from suite.forms import FORMS, GrpcRaw, Refused, RestBinary
from suite.real_models import (
    MINILM_INT8_PADDED,
    MINILM_PADDED,
    MODELS,
    PACKAGED,
    SILERO,
    SILERO_DECLARED,
    SILERO_SEQUENCE,
)

from .conftest import ROWS_PER_RUN

# Rows in one run and rows apart are summed up in different blocks.
ROUNDING = {"FP32": 1e-5}
STEPS = 6

SHAPES = [pytest.param(m, size, id=f"{m.name}-{size}") for m in MODELS for size in m.sizes]
JOINING = [
    pytest.param(m, size, id=f"{m.name}-{size}") for m in MODELS if m.joins for size in m.sizes
]
by_form = pytest.mark.parametrize("form", (RestBinary, GrpcRaw), ids=lambda form: form.name)


@cache
def session(model):
    return python_api.open_session(str(model.path))


def theirs(model, feeds):
    """The Python API's outputs by name."""
    names = [value.name for value in session(model).get_outputs()]
    return dict(zip(names, python_api.answer(session(model), feeds), strict=True))


def assert_same(expected, answer):
    assert list(answer.outputs) == list(expected)
    for name, array in expected.items():
        problem = difference(array, answer.outputs[name], ROUNDING)
        assert not problem, f"output `{name}`: {problem}"


def assert_identical(one, other):
    assert list(one.outputs) == list(other.outputs)
    for name, array in one.outputs.items():
        assert identical(array, other.outputs[name]), f"output `{name}` changed"


def ask(address, form, model, feeds):
    asking = form(address)
    try:
        return asking.infer(model.name, feeds)
    finally:
        asking.close()


def ask_at_once(address, form, model, many, or_refusal=False):
    """Puts all requests at the same time, each on a connection of its own."""

    def one(feeds):
        try:
            return ask(address, form, model, feeds)
        except Refused as refusal:
            if or_refusal:
                return refusal
            raise

    with ThreadPoolExecutor(len(many)) as threads:
        return list(threads.map(one, many))


@pytest.fixture
def random(request):
    """Numbers that no other test draws, so that no answer of another test is in the cache."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@by_form
@pytest.mark.parametrize("rows", (1, 2, 7))
@pytest.mark.parametrize(("model", "size"), SHAPES)
def test_an_answer_is_the_python_api_s_and_comes_again_out_of_the_cache(
    prompt, entry, form, model, size, rows, random
):
    feeds = model.make(random, rows, size)
    address = getattr(prompt, entry)
    first = ask(address, form, model, feeds)
    assert first.parameters["cache"] == "computed"
    assert_same(theirs(model, feeds), first)
    again = ask(address, form, model, feeds)
    assert again.parameters["cache"] == "hit"
    assert_identical(first, again)


@by_form
@pytest.mark.parametrize(("model", "size"), JOINING)
def test_rows_that_share_a_run_are_answered_as_alone(
    prompt, patient, entry, form, model, size, random
):
    many = [model.make(random, 1, size) for _ in range(ROWS_PER_RUN)]
    address = getattr(patient, entry)
    together = ask_at_once(address, form, model, many)
    apart = [ask(getattr(prompt, entry), form, model, feeds) for feeds in many]
    again = [ask(address, form, model, feeds) for feeds in many]
    expected = [theirs(model, feeds) for feeds in many]
    assert tell_apart(expected), "equal answers could not show whose is whose"
    for wanted, joined, alone, cached in zip(expected, together, apart, again, strict=True):
        assert joined.parameters["batch_size"] == ROWS_PER_RUN
        assert alone.parameters["batch_size"] == 1
        assert cached.parameters["cache"] == "hit"
        assert_same(wanted, joined)
        assert_same(wanted, alone)
        assert_identical(joined, cached)


@by_form
@pytest.mark.parametrize(("model", "size"), JOINING)
def test_requests_of_several_rows_share_a_run(patient, entry, form, model, size, random):
    many = [model.make(random, rows, size) for rows in (1, 2, 1)]
    together = ask_at_once(getattr(patient, entry), form, model, many)
    for feeds, joined in zip(many, together, strict=True):
        assert joined.parameters["batch_size"] == ROWS_PER_RUN
        assert_same(theirs(model, feeds), joined)


@by_form
@pytest.mark.parametrize("lengths", ((7, 9, 8, 7), (26, 34, 30, 33), (85, 113, 100, 99)), ids=str)
@pytest.mark.parametrize("model", (MINILM_PADDED, MINILM_INT8_PADDED), ids=lambda m: m.name)
def test_sentences_of_different_length_share_a_run_and_are_answered_as_alone(
    patient, entry, form, model, lengths, random
):
    many = [model.make(random, 1, length) for length in lengths]
    together = ask_at_once(getattr(patient, entry), form, model, many)
    expected = [theirs(model, feeds) for feeds in many]
    for wanted, joined in zip(expected, together, strict=True):
        assert joined.parameters["batch_size"] == ROWS_PER_RUN
        assert_same(wanted, joined)


@by_form
def test_inputs_of_one_sentence_that_differ_in_length_are_refused(prompt, entry, form, random):
    feeds = MINILM_PADDED.make(random, 1, 9) | {"attention_mask": np.ones((1, 8), np.int64)}
    with pytest.raises(Refused, match=r"must be equally long.*input_ids.*attention_mask"):
        ask(getattr(prompt, entry), form, MINILM_PADDED, feeds)


def tell_apart(answers):
    return any(difference(answers[0], other, ROUNDING) for other in answers[1:])


class Speaker:
    """Somebody whose voice silero listens to, window by window."""

    def __init__(self, random, samples):
        self._random, self._samples, self._state = random, samples, None

    def next_window(self):
        feeds = SILERO.make(self._random, 1, self._samples)
        if self._state is not None:
            feeds["state"] = self._state
        return feeds

    def heard(self, answer):
        self._state = answer.outputs["stateN"]


def listen(address, form, model, speakers):
    """Several steps of all speakers at once, each with the state of its last step; checks each
    and gives how many rows the runs had."""
    sizes = set()
    for _ in range(STEPS):
        windows = [speaker.next_window() for speaker in speakers]
        answers = ask_at_once(address, form, model, windows)
        expected = [theirs(model, window) for window in windows]
        assert tell_apart(expected)
        for speaker, wanted, answer in zip(speakers, expected, answers, strict=True):
            assert_same(wanted, answer)
            sizes.add(answer.parameters["batch_size"])
            speaker.heard(answer)
    return sizes


@by_form
def test_a_state_whose_axis_is_declared_is_joined_along_it(patient, entry, form, random):
    speakers = [Speaker(random, 576) for _ in range(ROWS_PER_RUN)]
    sizes = listen(getattr(patient, entry), form, SILERO_DECLARED, speakers)
    assert sizes == {ROWS_PER_RUN}


@by_form
def test_a_state_whose_axis_is_not_declared_runs_alone(patient, entry, form, random):
    speakers = [Speaker(random, 576) for _ in range(ROWS_PER_RUN)]
    assert listen(getattr(patient, entry), form, SILERO, speakers) == {1}


@by_form
def test_a_value_for_all_rows_holds_only_for_the_requests_that_sent_it(prompt, entry, form, random):
    # Only `sr` tells the requests apart: what it says holds for a whole run, and to windows of
    # this length there is no answer at the other rate.
    good = [SILERO.make(random, 1, 576) for _ in range(ROWS_PER_RUN)]
    bad = [{**SILERO.make(random, 1, 576), "sr": np.array(8000)} for _ in good]
    mixed = [feeds for pair in zip(good, bad, strict=True) for feeds in pair]
    outcomes = ask_at_once(getattr(prompt, entry), form, SILERO_DECLARED, mixed, or_refusal=True)
    for feeds, answer in zip(good, outcomes[::2], strict=True):
        assert_same(theirs(SILERO, feeds), answer)
    assert all(isinstance(outcome, Refused) and outcome.text for outcome in outcomes[1::2])


@by_form
def test_a_first_dimension_that_is_time_is_not_joined(patient, entry, form, random):
    many = [SILERO_SEQUENCE.make(random, windows, None) for windows in (3, 3, 3, 5)]
    answers = ask_at_once(getattr(patient, entry), form, SILERO_SEQUENCE, many)
    for feeds, answer in zip(many, answers, strict=True):
        assert_same(theirs(SILERO_SEQUENCE, feeds), answer)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_a_sequence_of_maps_is_answered_as_json(prompt, entry, form, random):
    path = PACKAGED / "logreg_iris.onnx"
    feeds = {"float_input": random.uniform(0, 8, (3, 2)).astype(np.float32)}
    label, probabilities = python_api.answer(python_api.open_session(str(path)), feeds)
    asking = form(getattr(prompt, entry))
    answer = asking.infer("logreg_iris", feeds)
    asking.close()
    declared = {value.name: value.type for value in onnx.load(path).graph.output}
    ours = nontensor.read(answer.outputs["probabilities"], declared["probabilities"])
    assert not difference(label, answer.outputs["label"])
    assert [sorted(one) for one in ours] == [sorted(one) for one in probabilities]
    for mine, one in zip(ours, probabilities, strict=True):
        np.testing.assert_allclose([mine[key] for key in one], list(one.values()), rtol=1e-6)
