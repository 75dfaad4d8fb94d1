"""Whether a server says that it is there and which models it has."""

import pytest
from suite.models import MODELS, VERSIONED


def test_server_is_live_and_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()


def test_every_model_is_ready(client, server):
    for model in MODELS:
        if not (server.is_triton and model.inferring_only):
            assert client.is_model_ready(model.name), model.name


@pytest.mark.parametrize(
    ("version", "ready"), [("1", True), ("2", False), ("3", True), ("4", False), ("", True)]
)
def test_a_version_is_ready_where_it_is_served(client, version, ready):
    assert client.is_model_ready(VERSIONED.name, version) is ready


def test_an_unknown_model_is_not_ready(client):
    assert client.is_model_ready("no_such_model") is False
    assert client.is_model_ready("no_such_model", "1") is False
