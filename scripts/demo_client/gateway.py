"""One request to a gateway or worker over its plain HTTP interface."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass


class RequestFailed(Exception):
    """The server could not be reached or refused; the text says which, in a sentence."""


@dataclass(frozen=True)
class Answer:
    """What came back for one request."""

    numbers: list
    """The output tensor, flat and row-major."""
    node: str
    """The worker that answered."""
    microseconds: int
    """What the inference took there."""
    cached: bool
    """Whether the worker had the answer already."""


def infer(gateway, model, numbers, shape=None, timeout_s=30.0):
    """Ask `model` at the base URL `gateway` for one tensor and return its Answer.

    `numbers` is flat, row-major; without `shape` it is one item of the model's input.
    """
    body = {"input_data": numbers}
    if shape is not None:
        body["shape"] = shape
    request = urllib.request.Request(
        f"{gateway.rstrip('/')}/models/{model}/infer",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            reply = json.load(response)
    except urllib.error.HTTPError as refusal:
        raise RequestFailed(f"{model}: {refusal.code}, {reason(refusal.read())}") from refusal
    except OSError as failure:
        raise RequestFailed(f"no answer from {gateway}: {failure}") from failure
    return Answer(
        numbers=reply["output_data"],
        node=reply["node_id"],
        microseconds=reply["inference_time_us"],
        cached=reply["cached"],
    )


def reason(body):
    """The server's own words out of an error body, or the body where it has no such form."""
    try:
        return json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or "with no explanation"


def percent(probability):
    """A probability for people: `97 %`, and never 100 % for what is not certain."""
    if 0.995 <= probability < 1.0:
        return "more than 99 %"
    return f"{100 * probability:.0f} %"
