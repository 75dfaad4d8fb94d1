"""Whether the counts move as they should, by how much, and nothing else moves with them."""

import time

import numpy as np
import pytest
from suite.differences import differs
from suite.models import ADD_SUB, CACHED, LOOKUP, MODELS, VECTOR, VERSIONED
from suite.statuses import Status, refused

SETTLE_DEADLINE_SECONDS = 5


class Counter:
    """Numbers that no test has used, so that no answer is kept from before."""

    def __init__(self):
        self._next = 1_000.0

    def row(self, rows=1):
        """Rows that differ: of equal ones only the first is computed."""
        first = self._next + 1
        self._next += rows
        return np.arange(first, first + rows, dtype=np.float32)[:, None].repeat(4, axis=1)

    def vector(self):
        self._next += 1
        return np.array([self._next], np.float32)


fresh = Counter()


def of(client, model):
    """The statistics of a model with one version."""
    (found,) = client.statistics(model)
    return found


def after(client, model, before, requests, kind="success"):
    """The statistics when so many more requests are counted: Triton counts a moment after it
    has answered."""
    deadline = time.monotonic() + SETTLE_DEADLINE_SECONDS
    while True:
        found = of(client, model)
        if moved(before, found, kind)[0] >= requests or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


def moved(before, after, kind):
    """By how much a count and its time went up. Nothing is written for zero in protobuf's JSON."""

    def read(statistics, part):
        return statistics.get("inference_stats", {}).get(kind, {}).get(part, 0)

    return tuple(read(after, part) - read(before, part) for part in ("count", "ns"))


def counts(before, after):
    kinds = ("inference_count", "execution_count")
    return tuple(after.get(kind, 0) - before.get(kind, 0) for kind in kinds)


def test_every_served_version_has_statistics(client, server):
    told = {(one["name"], one["version"]) for one in client.statistics()}
    for model in MODELS:
        if not (server.is_triton and model.inferring_only):
            assert any(name == model.name for name, _ in told), model.name
    assert {version for name, version in told if name == VERSIONED.name} == {"1", "3"}


def test_statistics_of_one_version(client):
    both = client.statistics(VERSIONED.name)
    assert sorted(one["version"] for one in both) == ["1", "3"]
    (one,) = client.statistics(VERSIONED.name, "1")
    assert (one["name"], one["version"]) == (VERSIONED.name, "1")


@pytest.mark.parametrize(("model", "version"), [("no_such_model", ""), (VERSIONED.name, "2")])
def test_statistics_of_what_is_not_there(client, server, model, version):
    status = differs(
        "statistics-of-what-is-not-there",
        server,
        ours=Status.NOT_FOUND,
        theirs=Status.INVALID,
    )
    with refused(client, status, says=[model]):
        client.statistics(model, version)


def ask(client, rows=1):
    inputs = [client.tensor(name, fresh.row(rows)) for name in ("INPUT0", "INPUT1")]
    return client.infer(ADD_SUB.name, inputs)


def test_requests_are_counted_by_rows_and_by_runs(client):
    before = of(client, ADD_SUB.name)
    for rows in (1, 3, 1):
        ask(client, rows)
    now = after(client, ADD_SUB.name, before, requests=3)
    assert counts(before, now) == (5, 3)
    for kind in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        count, nanoseconds = moved(before, now, kind)
        assert count == 3, kind
        assert nanoseconds > 0, kind
    assert moved(before, now, "fail") == (0, 0)
    assert now["last_inference"] >= before.get("last_inference", 0)
    assert now["last_inference"] > 1_700_000_000_000, "milliseconds since 1970"


def test_a_success_takes_at_least_as_long_as_its_parts(client):
    before = of(client, ADD_SUB.name)
    ask(client)
    now = after(client, ADD_SUB.name, before, requests=1)
    parts = ("queue", "compute_input", "compute_infer", "compute_output")
    assert moved(before, now, "success")[1] >= sum(moved(before, now, p)[1] for p in parts)


def test_batches_are_counted_by_their_size(client):
    def by_size(statistics):
        sizes = statistics.get("batch_stats", [])
        return {one["batch_size"]: one["compute_infer"]["count"] for one in sizes}

    before = of(client, ADD_SUB.name)
    for rows in (2, 2, 5):
        ask(client, rows)
    now = after(client, ADD_SUB.name, before, requests=3)
    earlier = by_size(before)
    grown = {size: count - earlier.get(size, 0) for size, count in by_size(now).items()}
    assert {size: count for size, count in grown.items() if count} == {2: 2, 5: 1}


def test_a_run_that_fails_is_counted_as_failed(client, server):
    before = of(client, LOOKUP.name)
    blame = differs("failed-run", server, ours=Status.INVALID, theirs=Status.FAILED)
    with refused(client, blame):
        client.infer(LOOKUP.name, [client.tensor("INDICES", np.array([77], np.int64))])
    # Triton's Python backend answers with the error itself, and the server counts an answer.
    kind, other = ("success", "fail") if server.is_triton else ("fail", "success")
    now = after(client, LOOKUP.name, before, requests=1, kind=kind)
    assert moved(before, now, kind)[0] == 1
    assert moved(before, now, other) == (0, 0)


def test_what_is_refused_is_not_counted(client):
    """Shown by a request that is answered after it: its count is the only one."""
    before = of(client, VECTOR.name)
    with refused(client, Status.INVALID):
        client.infer(VECTOR.name, [client.tensor("INPUT", np.array([1], np.int32))])
    client.infer(VECTOR.name, [client.tensor("INPUT", fresh.vector())])
    now = after(client, VECTOR.name, before, requests=1)
    assert counts(before, now) == (1, 1)
    assert moved(before, now, "success")[0] == 1


def test_an_answer_that_is_kept_is_not_computed_again(client):
    sent = fresh.vector()
    before = of(client, CACHED.name)
    for _ in range(3):
        client.infer(CACHED.name, [client.tensor("INPUT", sent)])
    now = after(client, CACHED.name, before, requests=3)
    assert moved(before, now, "cache_miss")[0] == 1
    assert moved(before, now, "cache_hit")[0] == 2
    assert moved(before, now, "success")[0] == 3
    assert moved(before, now, "compute_infer")[0] == 1
    # An inference is what a model did: an answer that was kept is none.
    assert counts(before, now) == (1, 1)
