"""silero with a state that the server keeps: a sequence is answered, to the bit, as if its client
kept the state and sent it along."""

import contextlib
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from suite import python_api
from suite.compare import difference, identical
from suite.forms import FORMS, GrpcRaw, Refused, RestBinary
from suite.real_models import RATES, SILERO, SILERO_DECLARED, STATE_ON_AXIS_1

from .conftest import ROWS_PER_RUN, UNTIL_FULL, start

WINDOWS = 300
SPEAKERS = 12
SAMPLES = 576

STATE = """
[[sequences.state]]
input = "state"
output = "stateN"
"""
KEPT = replace(SILERO_DECLARED, name="silero_kept", config=STATE_ON_AXIS_1 + STATE)
# Each request runs by itself, and all the same its rows have to be told.
KEPT_ALONE = replace(
    KEPT, name="silero_alone", config=KEPT.config.replace('mode = "rows"', 'mode = "alone"')
)

# Rows in one run and rows apart are summed up in different blocks; what differs is heard again
# and again, and does not grow.
ROUNDING = {"FP32": 1e-5}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for model in (KEPT, KEPT_ALONE, SILERO_DECLARED):
        model.write(folder)
    return folder


@pytest.fixture(scope="module")
def three(repository, tmp_path_factory):
    """A gateway over three workers, each of which keeps the state of others."""
    with contextlib.ExitStack() as running:
        log = tmp_path_factory.mktemp("three") / "log"
        yield start(running, repository, log, workers=3)


@pytest.fixture(scope="module")
def full(repository, tmp_path_factory):
    """A gateway over one worker, whose runs begin when they are full."""
    with contextlib.ExitStack() as running:
        log = tmp_path_factory.mktemp("full") / "log"
        yield start(running, repository, log, workers=1, settings=UNTIL_FULL)


@pytest.fixture
def random(request):
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


def speech(random, windows, samples=SAMPLES):
    """Windows of somebody who speaks now and then, without a state."""
    made = (SILERO.make(random, 1, samples) for _ in range(windows))
    return [
        {"input": m["input"] * np.float32(random.choice((0.01, 1))), "sr": m["sr"]} for m in made
    ]


def kept_by_server(form, model, name, windows):
    """What is heard in a sequence, window by window."""
    heard = []
    for place, window in enumerate(windows):
        last = place == len(windows) - 1
        answer = form.infer(
            model.name,
            window,
            sequence_id=name,
            sequence_start=place == 0,
            sequence_end=last,
        )
        assert list(answer.outputs) == ["output"]
        assert answer.parameters["cache"] == "computed"
        heard.append(answer)
    return heard


def kept_by_client(form, model, windows):
    state, heard = zeros(), []
    for window in windows:
        answer = form.infer(model.name, {**window, "state": state})
        state = answer.outputs["stateN"]
        heard.append(answer)
    return heard


def kept_by_python(windows):
    """What ONNX Runtime's own API answers, whose caller keeps the state."""
    session, state, heard = python_api.open_session(str(SILERO.path)), zeros(), []
    for window in windows:
        output, state = session.run(["output", "stateN"], {**window, "state": state})
        heard.append(output)
    return heard


def zeros():
    return np.zeros((2, 1, 128), np.float32)


def assert_tells(outputs):
    """Answers that hardly differ could not show that the state was the right one."""
    assert np.ptp(np.concatenate(outputs)) > 0.01


@pytest.mark.parametrize("form", (RestBinary, GrpcRaw), ids=lambda form: form.name)
@pytest.mark.parametrize("model", (KEPT, KEPT_ALONE), ids=lambda model: model.name)
@pytest.mark.parametrize("samples", RATES)
def test_a_kept_state_is_the_client_s_own_to_the_bit(three, entry, form, model, samples, random):
    windows = speech(random, WINDOWS, samples)
    with contextlib.closing(form(getattr(three, entry))) as asking:
        ours = kept_by_server(asking, model, "one", windows)
        theirs = kept_by_client(asking, model, windows)
    for mine, other in zip(ours, theirs, strict=True):
        assert identical(mine.outputs["output"], other.outputs["output"])
    outputs = [one.outputs["output"] for one in ours]
    assert_tells(outputs)
    for place, (wanted, output) in enumerate(zip(kept_by_python(windows), outputs, strict=True)):
        problem = difference(wanted, output, ROUNDING)
        assert not problem, f"window {place}: {problem}"


@pytest.mark.parametrize("form", (RestBinary, GrpcRaw), ids=lambda form: form.name)
def test_sequences_at_once_hear_only_themselves_at_whichever_worker(three, form, random):
    speakers = [speech(random, WINDOWS // 4) for _ in range(SPEAKERS)]

    def listen(who):
        with contextlib.closing(form(three.gateway)) as asking:
            # A number names a sequence as well as a text does.
            name = who + 1 if who % 2 else f"speaker {who}"
            return kept_by_server(asking, KEPT, name, speakers[who])

    with ThreadPoolExecutor(SPEAKERS) as threads:
        heard = list(threads.map(listen, range(SPEAKERS)))
    nodes = [{answer.parameters["node_id"] for answer in answers} for answers in heard]
    assert all(len(one) == 1 for one in nodes), "a sequence stays where its state is"
    assert len(set.union(*nodes)) == 3
    for windows, answers in zip(speakers, heard, strict=True):
        for wanted, answer in zip(kept_by_python(windows), answers, strict=True):
            assert not difference(wanted, answer.outputs["output"], ROUNDING)


@pytest.mark.parametrize("form", (RestBinary, GrpcRaw), ids=lambda form: form.name)
def test_sequences_share_runs(full, entry, form, random):
    speakers = [speech(random, 20) for _ in range(ROWS_PER_RUN)]
    with contextlib.ExitStack() as open_forms, ThreadPoolExecutor(ROWS_PER_RUN) as threads:
        forms = [
            open_forms.enter_context(contextlib.closing(form(getattr(full, entry))))
            for _ in speakers
        ]
        heard = list(
            threads.map(
                lambda who: kept_by_server(forms[who], KEPT, f"{who}", speakers[who]),
                range(ROWS_PER_RUN),
            )
        )
    for windows, answers in zip(speakers, heard, strict=True):
        assert {answer.parameters["batch_size"] for answer in answers} == {ROWS_PER_RUN}
        for wanted, answer in zip(kept_by_python(windows), answers, strict=True):
            assert not difference(wanted, answer.outputs["output"], ROUNDING)


@pytest.mark.parametrize("form", (RestBinary, GrpcRaw), ids=lambda form: form.name)
def test_several_rows_are_one_sequence(three, entry, form, random):
    rows = [speech(random, 20) for _ in range(3)]
    together = [
        {"input": np.concatenate([one["input"] for one in windows]), "sr": windows[0]["sr"]}
        for windows in zip(*rows, strict=True)
    ]
    with contextlib.closing(form(getattr(three, entry))) as asking:
        heard = kept_by_server(asking, KEPT, "three", together)
    for place, windows in enumerate(rows):
        for wanted, answer in zip(kept_by_python(windows), heard, strict=True):
            assert not difference(wanted, answer.outputs["output"][place : place + 1], ROUNDING)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_what_goes_wrong_is_told(three, entry, form, random):
    (window,) = speech(random, 1)
    status = 400 if form.name.startswith("REST") else "INVALID_ARGUMENT"
    with contextlib.closing(form(getattr(three, entry))) as asking:

        def refused(model, feeds, says, **parameters):
            with pytest.raises(Refused) as refusal:
                asking.infer(model.name, feeds, **parameters)
            assert refusal.value.status == status
            assert says in refusal.value.text

        refused(KEPT, window, "knows no sequence `9`", sequence_id=9)
        refused(KEPT, window, "input `state`")
        state = {**window, "state": zeros()}
        refused(KEPT, state, "input `state`", sequence_id="s", sequence_start=True)
        refused(SILERO_DECLARED, window, "keeps no state", sequence_id=9, sequence_start=True)
        # 0 and the empty text name none.
        for none in (0, ""):
            answer = asking.infer(KEPT.name, state, sequence_id=none, sequence_start=True)
            assert list(answer.outputs) == ["output", "stateN"]
