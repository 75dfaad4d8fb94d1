"""Triton's load generator, a C++ client of both protocols, works through without an error.

Not a measurement: it says that a client which expects a Triton server finds one. What it saw is
printed at the end of the run all the same.
"""

import os
import re
import subprocess

import pytest
from suite.models import ADD_SUB, IDENTITIES, VERSIONED

PERF_ANALYZER = os.environ.get("PERF_ANALYZER")
LIMIT_SECONDS = 90

pytestmark = pytest.mark.skipif(
    not PERF_ANALYZER, reason="PERF_ANALYZER is not set: scripts/compatibility --perf-analyzer"
)

HTTP = ("-i", "http")
GRPC = ("-i", "grpc")
JSON = ("--input-tensor-format", "json", "--output-tensor-format", "json")

RUNS = {
    "http": (ADD_SUB, *HTTP, "-b", "1", "--concurrency-range", "1:8:7"),
    "http-batch": (ADD_SUB, *HTTP, "-b", "4", "--concurrency-range", "1:8:7"),
    "http-json": (ADD_SUB, *HTTP, *JSON, "-b", "1", "--concurrency-range", "1:8:7"),
    "http-async": (ADD_SUB, *HTTP, "-a", "--concurrency-range", "8"),
    "http-rate": (ADD_SUB, *HTTP, "--request-rate-range", "100"),
    "http-texts": (IDENTITIES["BYTES"], *HTTP, "--shape", "INPUT:2,3", "--concurrency-range", "2"),
    "http-version": (VERSIONED, *HTTP, "-x", "1", "--shape", "INPUT:3", "--concurrency-range", "2"),
    "grpc": (ADD_SUB, *GRPC, "-b", "1", "--concurrency-range", "1:8:7"),
    "grpc-batch": (ADD_SUB, *GRPC, "-b", "4", "--concurrency-range", "1:8:7"),
    "grpc-async": (ADD_SUB, *GRPC, "-a", "--concurrency-range", "8"),
    "grpc-streaming": (ADD_SUB, *GRPC, "--streaming", "-b", "1", "--concurrency-range", "1:8:7"),
    "grpc-streaming-batch": (
        *(ADD_SUB, *GRPC, "--streaming"),
        *("-b", "4", "--concurrency-range", "8"),
    ),
    "grpc-gzip": (
        *(ADD_SUB, *GRPC, "--grpc-compression-algorithm", "gzip"),
        *("--concurrency-range", "2"),
    ),
    "grpc-texts": (IDENTITIES["BYTES"], *GRPC, "--shape", "INPUT:2,3", "--concurrency-range", "2"),
    "grpc-version": (VERSIONED, *GRPC, "-x", "1", "--shape", "INPUT:3", "--concurrency-range", "2"),
}

# Three windows of so many requests each, however much they differ: nothing is measured here.
ENOUGH = (
    *("--measurement-mode", "count_windows", "--measurement-request-count", "200"),
    *("--stability-percentage", "999", "--max-trials", "10"),
)


@pytest.mark.parametrize("run", RUNS)
def test_perf_analyzer(server, run, report):
    model, *settings = RUNS[run]
    address = server.grpc if "grpc" in settings else server.http
    command = [PERF_ANALYZER, "-m", model.name, "-u", address, *settings, *ENOUGH]
    ended = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout
    assert not re.search(r"\b(error|fail|refused|exception)", ended.stdout, re.IGNORECASE), (
        ended.stdout
    )
    # One line for each level of load: "Concurrency: 8, throughput: 1234.5 infer/sec, latency ..."
    levels = re.findall(
        r"(?:Concurrency|Request Rate): ([\d.]+), throughput: ([\d.]+) infer/sec, "
        r"latency (\d+) usec",
        ended.stdout,
    )
    assert len(levels) == (2 if "1:8:7" in settings else 1), ended.stdout
    for level, throughput, latency in levels:
        assert float(throughput) > 0
        report(f"{run:20} load {level:>4}  {float(throughput):9.1f} infer/s  {latency:>7} us")
