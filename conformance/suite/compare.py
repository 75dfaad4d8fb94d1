"""Whether two answers are the same.

Two questions are asked of an answer. Is it within a case's own tolerance of what the case
expects? There the onnx package's own judge decides. Is it what ONNX Runtime's Python API answers?
There integers, booleans and strings must be equal, and floats too up to the rounding that another
order of the same sums may cause.
"""

import numpy as np
from onnx.backend.test.runner import Runner

from .datatypes import FLOATS, datatype_of

# Relative to the largest magnitude in the tensor: about eight units in the last place.
ROUNDING = {"FP64": 2e-15, "FP32": 1e-6, "FP16": 8e-3, "BF16": 6e-2}


def unlike_expected(expected, outputs, case):
    """Why outputs are not what a case expects, or `None` where they are."""
    try:
        Runner.assert_similar_outputs(expected, outputs, case.rtol, case.atol)
    except (AssertionError, TypeError) as difference:
        lines = (line.strip() for line in str(difference).splitlines())
        return "not as the case expects: " + "; ".join(line for line in lines if line)[:300]
    return None


def difference(theirs, ours, rounding=ROUNDING):
    """Where `ours` is not `theirs`, in words, or `None` where it is.

    A value is an array, a list of values (a sequence), a dictionary of them (a map), a plain
    number or text (in a map), or `None` (an optional without content).
    """
    if theirs is None or ours is None:
        return None if theirs is ours else "only one has a value"
    if isinstance(theirs, list):
        return list_difference(theirs, ours, rounding)
    if isinstance(theirs, dict):
        return map_difference(theirs, ours, rounding)
    return array_difference(np.asarray(theirs), np.asarray(ours), rounding)


def list_difference(theirs, ours, rounding):
    if not isinstance(ours, list) or len(theirs) != len(ours):
        count = len(ours) if isinstance(ours, list) else "no list of"
        return f"{count} items instead of {len(theirs)}"
    found = (difference(a, b, rounding) for a, b in zip(theirs, ours, strict=True))
    return next((f"item {i}: {text}" for i, text in enumerate(found) if text), None)


def map_difference(theirs, ours, rounding):
    if not isinstance(ours, dict) or theirs.keys() != ours.keys():
        return f"keys {sorted(ours) if isinstance(ours, dict) else ours!r} are not {sorted(theirs)}"
    found = ((key, difference(theirs[key], ours[key], rounding)) for key in theirs)
    return next((f"key {key!r}: {text}" for key, text in found if text), None)


def array_difference(theirs, ours, rounding):
    theirs_type, ours_type = datatype_of(theirs), datatype_of(ours)
    if theirs_type != ours_type:
        return f"{ours_type} instead of {theirs_type}"
    if theirs.shape != ours.shape:
        return f"shape {list(ours.shape)} instead of {list(theirs.shape)}"
    if theirs_type not in FLOATS:
        wrong = theirs != ours
    else:
        wrong = floats_differ(theirs, ours, rounding[theirs_type])
    if not np.any(wrong):
        return None
    place = tuple(int(index) for index in np.argwhere(wrong)[0])
    return (
        f"{np.count_nonzero(wrong)} of {theirs.size} elements differ, first at {list(place)}: "
        f"{ours[place]!r} instead of {theirs[place]!r}"
    )


def floats_differ(theirs, ours, relative):
    """Per element; NaN equals NaN, an infinity itself only."""
    if theirs.tobytes() == ours.tobytes():
        return False
    a, b = (np.asarray(array, dtype=np.float64) for array in (theirs, ours))
    finite = np.isfinite(a) & np.isfinite(b)
    scale = np.max(np.abs(a), where=finite, initial=0.0)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        return ~(same | (finite & (np.abs(a - b) <= relative * scale)))


def kind_difference(theirs, ours):
    """As `difference`, for answers that are random: only shapes and types must agree."""
    if isinstance(theirs, np.ndarray) and isinstance(ours, np.ndarray):
        same = theirs.shape == ours.shape and datatype_of(theirs) == datatype_of(ours)
        return None if same else difference(theirs, ours)
    return difference(theirs, ours)


def identical(theirs, ours):
    """Whether no bit differs, but for NaN, of which there are many."""
    exactly = dict.fromkeys(ROUNDING, 0.0)
    return difference(theirs, ours, exactly) is None
