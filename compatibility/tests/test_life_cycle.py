"""Models that come and go while the server runs: load, reload, unload, and what the index says."""

import itertools
import json
import time

import numpy as np
import pytest
from suite.differences import differs
from suite.models import LIFE, MODELS, SCALAR, VECTOR, VERSIONED, file_name
from suite.statuses import Status, refused, tells
from suite.tensors import assert_same

SETTLE_DEADLINE_SECONDS = 20

numbers = itertools.count(1)


@pytest.fixture
def model():
    """A model that no test has used, not yet in the repository."""
    return LIFE.named(f"life_{next(numbers)}")


def served_version(client, model, version=""):
    """The version that answers, by what it adds to nothing."""
    sent = client.tensor("INPUT", np.zeros(2, np.float32))
    result = client.infer(model.name, [sent], version=version)
    (number,) = set(result.as_numpy("OUTPUT").tolist())
    return int(number)


def entries(client, model):
    return [one for one in client.repository_index() if one["name"] == model.name]


def state(client, model):
    """State and reason of a model of one version, once it is neither loading nor unloading:
    Triton answers an unload while it is at it."""

    def told():
        (entry,) = entries(client, model)
        return entry.get("state", ""), entry.get("reason", "")

    return settled(told, lambda found: found[0] not in ("LOADING", "UNLOADING"))


def settled(ask, wanted):
    """What is answered once it is as wanted, or when the time for that is over."""
    deadline = time.monotonic() + SETTLE_DEADLINE_SECONDS
    while True:
        found = ask()
        is_wanted = wanted(found) if callable(wanted) else found == wanted
        if is_wanted or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


def ready_versions(client, model):
    return [one["version"] for one in entries(client, model) if one.get("state") == "READY"]


def assert_gone(client, model):
    assert client.is_model_ready(model.name) is False
    with refused(client, Status.NOT_FOUND, says=[model.name]):
        served_version(client, model)


def write_version(server, model, version, content):
    place = server.repository / model.name / str(version)
    place.mkdir(parents=True, exist_ok=True)
    (place / file_name(server.backend)).write_bytes(content)


def test_index_lists_what_is_served(client, server):
    index = client.repository_index()
    ready = {(one["name"], one.get("version")) for one in index if one.get("state") == "READY"}
    for model in MODELS:
        if not (server.is_triton and model.inferring_only):
            assert any(name == model.name for name, _ in ready), model.name
    assert {v for name, v in ready if name == VERSIONED.name} == {"1", "3"}


def test_load_and_unload(client, server, model):
    assert_gone(client, model)
    server.add(model)
    client.load(model.name)
    assert client.is_model_ready(model.name)
    assert served_version(client, model) == 1
    assert state(client, model) == ("READY", "")
    assert client.model_metadata(model.name)["versions"] == ["1"]

    client.unload(model.name)
    assert_gone(client, model)
    told, reason = state(client, model)
    assert told == "UNAVAILABLE"
    tells(reason, ["unloaded"])
    # What was unloaded is not missing.
    assert settled(client.is_server_ready, True) is True

    client.load(model.name)
    assert served_version(client, model) == 1
    client.unload(model.name)


def test_load_of_what_is_not_in_the_repository(client, server, model):
    status = differs(
        "load-of-what-is-not-there", server, ours=Status.NOT_FOUND, theirs=Status.FAILED
    )
    with refused(client, status, says=[model.name]):
        client.load(model.name)


def test_unload_of_what_is_not_in_the_repository(client, server, model):
    if differs("unload-of-what-is-not-there", server, ours="refused", theirs="done") == "refused":
        with refused(client, Status.NOT_FOUND, says=[model.name]):
            client.unload(model.name)
    else:
        client.unload(model.name)


def test_a_second_load_of_what_has_not_changed(client, server, model):
    server.add(model)
    client.load(model.name)
    client.load(model.name)
    assert served_version(client, model) == 1
    assert state(client, model) == ("READY", "")
    client.unload(model.name)


def test_reload_takes_the_newest_version(client, server, model):
    server.add(model)
    client.load(model.name)
    assert served_version(client, model) == 1
    write_version(server, model, 2, model.content(server.backend, 2))
    assert served_version(client, model) == 1, "nothing changes without being asked for"
    client.load(model.name)
    assert served_version(client, model) == 2
    # Triton says that the old version is not ready while it is unloading it.
    statuses = differs(
        "version-that-was-replaced",
        server,
        ours=[Status.NOT_FOUND],
        theirs=[Status.UNAVAILABLE, Status.NOT_FOUND],
    )
    with refused(client, *statuses, says=[model.name, "1"]):
        served_version(client, model, version="1")
    client.unload(model.name)


def test_reload_takes_a_changed_file(client, server, model):
    server.add(model)
    client.load(model.name)
    write_version(server, model, 1, model.content(server.backend, 7))
    client.load(model.name)
    assert served_version(client, model) == 7
    client.unload(model.name)


def test_a_failed_load_says_why(client, server, model):
    server.add(model)
    write_version(server, model, 1, b"this is no model")
    with refused(client, Status.INVALID, says=[model.name]) as raised:
        client.load(model.name)
    assert_gone(client, model)
    told, reason = state(client, model)
    assert told == "UNAVAILABLE"
    assert len(reason) > 20, "a reason that helps"
    assert len(raised.value.message()) > len(model.name) + 20
    # One model that cannot be loaded is no reason to send the others' requests elsewhere.
    assert client.is_server_ready() is differs("readiness", server, ours=True, theirs=False)


def test_a_failed_load_leaves_the_old_one_serving(client, server, model):
    server.add(model)
    client.load(model.name)
    write_version(server, model, 2, b"this is no model")
    with refused(client, Status.INVALID, says=[model.name]):
        client.load(model.name)
    assert served_version(client, model) == 1
    assert client.is_model_ready(model.name)
    by_version = {one["version"]: one for one in entries(client, model)}
    assert by_version["1"]["state"] == "READY"
    assert by_version["2"]["state"] == "UNAVAILABLE"
    assert len(by_version["2"]["reason"]) > 20

    write_version(server, model, 2, model.content(server.backend, 2))
    client.load(model.name)
    assert served_version(client, model) == 2
    client.unload(model.name)


def test_load_with_a_configuration_of_its_own(client, server, model):
    server.add(model)
    write_version(server, model, 2, model.content(server.backend, 2))
    client.load(model.name)
    assert served_version(client, model) == 2

    only_the_first = {"specific": {"versions": [1]}}
    client.load(model.name, model.config_json(server.backend, version_policy=only_the_first))
    assert served_version(client, model) == 1
    assert client.model_config(model.name)["version_policy"] == only_the_first

    client.load(model.name)
    assert served_version(client, model) == 2
    client.unload(model.name)


def test_load_with_files_of_its_own(client, server, model):
    server.add(model)
    client.load(model.name)
    config = model.config_json(server.backend)
    client.load(model.name, config, model.files(server.backend, 5))
    assert served_version(client, model) == 5
    assert client.model_metadata(model.name)["versions"] == ["5"]
    assert ready_versions(client, model) == ["5"]

    client.load(model.name)
    assert served_version(client, model) == 1
    client.unload(model.name)


def test_load_of_files_for_a_model_that_is_not_in_the_repository(client, server, model):
    client.load(model.name, model.config_json(server.backend), model.files(server.backend, 3, 4))
    assert served_version(client, model) == 4
    client.unload(model.name)
    assert_gone(client, model)


def test_files_without_a_configuration(client, server, model):
    server.add(model)
    status, says = differs(
        "load-that-cannot-be-read",
        server,
        ours=(Status.INVALID, "config"),
        theirs=(Status.FAILED, model.name),
    )
    with refused(client, status, says=[says]):
        client.load(model.name, files=model.files(server.backend, 2))


@pytest.mark.parametrize("config", ["{", "[]", '{"max_batch_size": "many"}', '{"input": 3}'])
def test_a_configuration_that_cannot_be_read(client, server, model, config):
    server.add(model)
    statuses = differs(
        "load-that-cannot-be-read",
        server,
        ours=[Status.INVALID],
        theirs=[Status.FAILED, Status.INVALID],
    )
    with refused(client, *statuses):
        client.load(model.name, config)
    assert_gone(client, model)
    # What the folder says is as good as before.
    client.load(model.name)
    assert served_version(client, model) == 1
    client.unload(model.name)


def test_a_configuration_that_is_not_the_models(client, server, model):
    """An input that the file has not."""
    if server.is_triton:
        pytest.skip("its Python backend has no file to hold a configuration against")
    server.add(model)
    other = [{"name": "ANOTHER", "data_type": "TYPE_FP32", "dims": [-1]}]
    config = model.config_json(server.backend, input=other)
    with refused(client, Status.INVALID, says=["ANOTHER"]):
        client.load(model.name, config)


@pytest.mark.parametrize(
    "path",
    ["file:../outside/model.onnx", "file:/tmp/outside/model.onnx", "file:1/../../model.onnx"],
)
def test_a_file_outside_of_the_model(client, server, model, path):
    files = {path: model.content(server.backend, 1)}
    with refused(client, Status.INVALID, Status.FAILED):
        client.load(model.name, model.config_json(server.backend), files)
    assert_gone(client, model)
    server.add(model)
    client.load(model.name)
    client.unload(model.name)


def test_others_are_not_touched(client, server, model):
    sent = np.array([1, 2], np.float32)
    server.add(model)
    for step in (client.load, client.unload):
        step(model.name)
        result = client.infer(VECTOR.name, [client.tensor("INPUT", sent)])
        assert_same(result.as_numpy("OUTPUT"), sent)


def test_other_clients_see_it_at_once(server, model):
    server.add(model)
    server.client("http").load(model.name)
    for kind in ("grpc", "http.aio", "grpc.aio"):
        assert served_version(server.client(kind), model) == 1
    server.client("grpc").unload(model.name)
    for kind in ("http", "http.aio", "grpc.aio"):
        assert_gone(server.client(kind), model)


def test_a_model_of_scalars(client, server):
    scalar = SCALAR.named(f"scalar_{next(numbers)}")
    server.add(scalar)
    if differs("scalars", server, ours="loads", theirs="refuses") == "loads":
        client.load(scalar.name)
        assert client.is_model_ready(scalar.name)
        client.unload(scalar.name)
    else:
        with refused(client, Status.INVALID, says=["dims"]):
            client.load(scalar.name)


def test_a_configuration_is_json_of_its_own_shape(client, server, model):
    """Numbers may be texts, as protobuf's JSON writes 64-bit numbers."""
    config = json.loads(model.config_json(server.backend))
    config["input"][0]["dims"] = ["-1"]
    client.load(model.name, json.dumps(config), model.files(server.backend, 1))
    assert served_version(client, model) == 1
    client.unload(model.name)
