"""What a refusal is called in either protocol."""

from contextlib import contextmanager
from enum import Enum

import pytest
from tritonclient.utils import InferenceServerException


class Status(Enum):
    """The meaning, as the HTTP status and the gRPC code."""

    INVALID = ("400", "INVALID_ARGUMENT")
    NOT_FOUND = ("404", "NOT_FOUND")
    UNIMPLEMENTED = ("400", "UNIMPLEMENTED")
    UNAVAILABLE = ("503", "UNAVAILABLE")
    TIMED_OUT = ("504", "DEADLINE_EXCEEDED")
    FAILED = ("500", "INTERNAL")

    def of(self, client):
        http, grpc = self.value
        return http if client.protocol == "http" else f"StatusCode.{grpc}"


@contextmanager
def refused(client, *statuses, says=()):
    """Expects a refusal with one of the statuses, and a text that has the words of `says`."""
    with pytest.raises(InferenceServerException) as raised:
        yield raised
    error = raised.value
    expected = [one.of(client) if isinstance(one, Status) else one for one in statuses]
    assert error.status() in expected, f"{error.status()}: {error.message()}"
    tells(error.message(), says)


def tells(text, words):
    """Asserts that a text for people names what they need to know."""
    missing = [word for word in words if str(word).lower() not in text.lower()]
    assert not missing, f"{text!r} does not say {missing}"
