"""A case through the server, held against the Python API."""

from collections import Counter
from dataclasses import dataclass, field

from . import nontensor
from .compare import difference, identical, kind_difference, unlike_expected
from .forms import Refused


@dataclass
class Tally:
    """What came of all cases in one form."""

    counts: Counter = field(default_factory=Counter)
    rounded: list = field(default_factory=list)
    """Cases whose answers differ in the last bits."""
    wrong: dict = field(default_factory=dict)
    """What is wrong, by case."""


PASSED, RANDOM = "pass", "random, alike"
AS_PYTHON, REFUSED = "otherwise, as Python", "refused, as Python"
OUTCOMES = (PASSED, RANDOM, AS_PYTHON, REFUSED)


def ask_all(form, baseline):
    """Puts every case to a server that serves it."""
    tally = Tally()
    for answered in baseline.answered:
        name = answered.case.name
        try:
            exactly = holds(form, answered)
        except Exception as problem:  # whatever it is, the other cases are to be asked as well
            tally.wrong[name] = str(problem) or type(problem).__name__
            continue
        if answered.random:
            tally.counts[RANDOM] += 1
            continue
        tally.counts[PASSED if answered.passes else AS_PYTHON] += 1
        if not exactly:
            tally.rounded.append(name)
    for name, (case, reason) in baseline.failed_to_run.items():
        problem = unlike_failure(form, case, reason)
        if problem:
            tally.wrong[name] = problem
        else:
            tally.counts[REFUSED] += 1
    return tally


def holds(form, answered):
    """Whether all answers are the Python API's bit by bit; `AssertionError` where they differ by
    more than rounding."""
    case, exactly = answered.case, True
    for data_set, theirs in zip(case.data_sets, answered.outputs, strict=True):
        answer = form.infer(case.name, case.feeds(data_set))
        # An answer out of a cache would show nothing of the form in which it was asked.
        assert answer.parameters["cache"] == "computed", f"not computed: {answer.parameters}"
        names = [value.name for value in case.outputs]
        assert list(answer.outputs) == names, f"outputs {list(answer.outputs)} are not {names}"
        ours = [nontensor.read(answer.outputs[value.name], value.type) for value in case.outputs]
        if identical(theirs, ours):
            # So it is what the case expects, where the Python API's answer is.
            continue
        exactly = False
        compared = kind_difference if answered.random else difference
        for name, a, b in zip(names, theirs, ours, strict=True):
            problem = compared(a, b)
            assert not problem, f"output `{name}` is not the Python API's: {problem}"
        if answered.passes and not answered.random:
            problem = unlike_expected(data_set.expected, ours, case)
            assert not problem, problem
    return exactly


def unlike_failure(form, case, reason):
    """Why the server does not fail as the Python API does, or `None` where it does."""
    try:
        for data_set in case.data_sets:
            form.infer(case.name, case.feeds(data_set))
    except Refused as refusal:
        return None if refusal.text else "refused without a word"
    except Exception as problem:
        return str(problem)
    return f"answered, where the Python API says: {reason}"
