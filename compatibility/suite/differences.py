"""Where `inferring` and the Triton server differ, each difference by its name.

A test that expects different things of the two says so through `differs`, so that both halves
are observed whenever the suite runs against both, and docs/reference/compatibility.md explains
every one of the names: test_differences.py holds the two against each other.
"""

DIFFERENCES = {
    "binary-size-left-out",
    "classification",
    "failed-run",
    "form-of-an-answer",
    "half-in-json",
    "health-bodies",
    "index-of-new-folders",
    "load-of-what-is-not-there",
    "load-that-cannot-be-read",
    "made-ids",
    "malformed-body",
    "negative-shape",
    "nesting-of-data",
    "not-finite-in-json",
    "numbers-out-of-range",
    "parameters-of-an-answer",
    "raw-contents-too-many",
    "readiness",
    "reflection",
    "rows-over-max-batch-size",
    "scalars",
    "sequences",
    "shared-memory",
    "statistics-of-what-is-not-there",
    "timeout-of-a-run",
    "trace-and-log-settings",
    "unknown-encoding",
    "unload-of-what-is-not-there",
    "version-that-is-no-number",
    "version-that-was-replaced",
}


def differs(name, server, *, ours, theirs):
    """What is expected of this server where the two differ."""
    if name not in DIFFERENCES:
        raise KeyError(f"the difference {name!r} has no entry")
    return theirs if server.is_triton else ours
