"""Runs the conformance cases of the onnx package through `inferring`.

Every case is run by ONNX Runtime's Python API and, in each form of the protocol, by a worker
that has all models in one repository, and by a gateway before it. The server must give the Python
API's answers; where the Python API fails it must refuse. Left out is only what the protocol has no
words for, which is read off each model's own types. Prints counts; ends with 1 on any difference.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import onnx
import onnxruntime
from suite import baseline, processes, verdict
from suite.cases import all_cases
from suite.forms import FORMS

# So that each form has its own run, and none takes the answer of the one before.
WITHOUT_CACHE = ["worker.cache.entries=0"]
SHOWN = 20


def main():
    chosen = arguments()
    print(f"onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}", flush=True)
    cases = all_cases()
    if chosen.sample:
        print(f"a sample of {chosen.sample} with seed {chosen.seed}")
        cases = random.Random(chosen.seed).sample(cases, min(chosen.sample, len(cases)))
    established = baseline.establish(cases)
    for line in baseline.describe(cases, established):
        print(line)
    print(f"loading and running took {established.seconds:.1f} s in Python", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        problems = serve_and_ask(chosen, Path(folder), cases, established)
    print("\nno difference" if not problems else f"\n{problems} differences")
    return 1 if problems else 0


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("binary", help="the program `inferring`")
    parser.add_argument("--sample", type=int, metavar="N", help="only N cases, taken at random")
    parser.add_argument("--seed", type=int, default=1, help="which sample")
    return parser.parse_args()


def serve_and_ask(chosen, folder, cases, established):
    """The number of differences."""
    models, log = folder / "models", folder / "log"
    for case in cases:
        place = models / case.name / "1"
        place.mkdir(parents=True)
        (place / "model.onnx").write_bytes(case.model.SerializeToString())
    problems = 0
    with processes.Inferring(
        chosen.binary, "worker", str(models), settings=WITHOUT_CACHE, log=log
    ) as worker:
        problems += compare_index(worker, established)
        problems += ask(f"worker {worker.address}", worker, established)
        with processes.Inferring(chosen.binary, "gateway", worker.address, log=log) as gateway:
            problems += ask(f"gateway {gateway.address}", gateway, established)
        assert worker.is_running(), f"the worker is gone: {log.read_text()[-4000:]}"
    return problems


def compare_index(worker, established):
    """Every model must be served or refused with a reason, as the baseline says."""
    index = processes.index(worker.address)
    ready = sum(state == "READY" for state, _ in index.values())
    print(
        f"\nworker: {ready} of {len(index)} models ready after {worker.start_seconds:.1f} s, "
        f"{1000 * worker.start_seconds / max(len(index), 1):.1f} ms each; "
        f"{worker.memory_bytes() >> 20} MiB"
    )
    wrong = {}
    served = [one.case.name for one in established.answered]
    for name in served:
        state, reason = index.get(name, ("absent", ""))
        if state != "READY":
            wrong[name] = f"not served: {state}: {reason}"
    for name, why in {**established.left_out, **established.failed_to_load}.items():
        state, reason = index.get(name, ("absent", ""))
        if state != "UNAVAILABLE" or not reason:
            wrong[name] = f"{state}, reason `{reason}`; expected a refusal: {why}"
    show("index", wrong)
    return len(wrong)


def ask(title, server, established):
    problems = 0
    for kind in FORMS:
        form = kind(server.address)
        started = time.monotonic()
        tally = verdict.ask_all(form, established)
        form.close()
        counts = ", ".join(f"{tally.counts[outcome]} {outcome}" for outcome in verdict.OUTCOMES)
        seconds = time.monotonic() - started
        print(f"\n{title}, {form.name}, {seconds:.1f} s: {counts}, {len(tally.wrong)} WRONG")
        if tally.rounded:
            print(f"    {len(tally.rounded)} of them differ in the last bits")
        show(form.name, tally.wrong)
        problems += len(tally.wrong)
    return problems


def show(title, wrong):
    for name, problem in list(wrong.items())[:SHOWN]:
        print(f"    {title}: {name}: {problem}")
    if len(wrong) > SHOWN:
        print(f"    {title}: and {len(wrong) - SHOWN} more")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
