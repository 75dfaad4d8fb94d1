"""What ONNX Runtime's Python API makes of the cases, and so what the server has to."""

import time
from collections import Counter
from dataclasses import dataclass, field

from . import python_api
from .cases import Case
from .compare import unlike_expected
from .traits import draws_random_numbers, not_carried


@dataclass
class Baseline:
    """All cases, sorted by what the server owes."""

    left_out: dict = field(default_factory=dict)
    """Cases that the protocol cannot carry, and why: name to cause."""
    answered: list = field(default_factory=list)
    """Cases to which the Python API has an answer: `Answered`."""
    failed_to_load: dict = field(default_factory=dict)
    """Name to the Python API's reason."""
    failed_to_run: dict = field(default_factory=dict)
    """Name to the case and the Python API's reason."""
    seconds: float = 0.0
    """What loading and running all of them took in Python."""


@dataclass(frozen=True)
class Answered:
    """A case with the Python API's answers."""

    case: Case
    outputs: list
    """For each data set a value for each output."""
    random: bool
    """Whether the model draws random numbers: no two answers need be equal."""
    passes: bool
    """Whether the answers are those that the case expects."""


def establish(cases):
    """Runs every case through the Python API."""
    baseline = Baseline()
    for case in cases:
        started = time.monotonic()
        outcome = python_api.run(case)
        baseline.seconds += time.monotonic() - started
        cause = not_carried(case)
        if cause:
            baseline.left_out[case.name] = cause
        elif not isinstance(outcome, python_api.Failure):
            baseline.answered.append(judged(case, outcome))
        elif outcome.stage == "load":
            baseline.failed_to_load[case.name] = outcome.reason
        else:
            baseline.failed_to_run[case.name] = (case, outcome.reason)
    return baseline


def judged(case, outputs):
    random = draws_random_numbers(case.model)
    pairs = zip(case.data_sets, outputs, strict=True)
    unlike = not random and any(unlike_expected(s.expected, o, case) for s, o in pairs)
    return Answered(case, outputs, random, passes=not unlike)


def describe(cases, baseline):
    """The counts, a line each."""
    kinds = Counter(case.kind for case in cases)
    yield f"{len(cases)} cases: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items())
    yield f"{len(baseline.left_out)} left out, because the protocol cannot carry them:"
    for cause, count in sorted(Counter(baseline.left_out.values()).items()):
        yield f"{count:7} {cause}"
    yield f"{len(cases) - len(baseline.left_out)} carried; ONNX Runtime's Python API"
    answered = baseline.answered
    passes = sum(one.passes and not one.random for one in answered)
    random = sum(one.random for one in answered)
    yield f"{passes:7} passes"
    yield f"{random:7} answers at random (judged by shape and type)"
    yield f"{len(answered) - passes - random:7} answers otherwise than the case expects"
    yield f"{len(baseline.failed_to_load):7} cannot load"
    yield f"{len(baseline.failed_to_run):7} fails to run"
