"""What servers and models say of themselves: metadata and configuration."""

import pytest
from suite.models import ADD_SUB, ALIASED, LATEST, MIXED, MODELS, VECTOR, VERSIONED, type_name
from suite.statuses import Status, refused


def test_server_metadata(client):
    metadata = client.server_metadata()
    assert metadata["name"]
    assert metadata["version"]
    # What clients look for before they use it.
    for extension in ("model_repository", "model_configuration", "statistics"):
        assert extension in metadata["extensions"]
    if client.protocol == "http":
        assert "binary_tensor_data" in metadata["extensions"]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_model_metadata(client, server, model):
    if server.is_triton and model.inferring_only:
        pytest.skip("has no such model")
    metadata = client.model_metadata(model.name)
    assert metadata["name"] == model.name
    assert metadata["platform"]
    for told, declared in (
        (metadata["inputs"], model.inputs),
        (metadata["outputs"], model.outputs),
    ):
        expected = [(one.name, one.datatype, model.shape(one)) for one in declared]
        # An empty list is left out of protobuf's JSON.
        assert [(one["name"], one["datatype"], one.get("shape", [])) for one in told] == expected


def test_metadata_lists_the_versions_that_are_served(client):
    assert client.model_metadata(VERSIONED.name)["versions"] == ["1", "3"]
    assert client.model_metadata(LATEST.name)["versions"] == ["10"]


def test_metadata_of_one_version_names_that_version(client):
    assert client.model_metadata(VERSIONED.name, "1")["versions"] == ["1"]


def test_metadata_by_an_alias(client, server):
    if server.is_triton:
        pytest.skip("has no aliases")
    for alias, version in ALIASED.aliases:
        assert client.model_metadata(ALIASED.name, alias)["versions"] == [str(version)]


@pytest.mark.parametrize(
    ("model", "version"), [("no_such_model", ""), (VERSIONED.name, "2"), (VERSIONED.name, "77")]
)
def test_metadata_of_what_is_not_there(client, model, version):
    with refused(client, Status.NOT_FOUND, says=[model, version]):
        client.model_metadata(model, version)


@pytest.mark.parametrize("model", [ADD_SUB, MIXED, VECTOR], ids=lambda model: model.name)
def test_model_config(client, model):
    config = client.model_config(model.name)
    assert config["name"] == model.name
    assert config.get("max_batch_size", 0) == model.batch_size_max
    for told, declared in ((config["input"], model.inputs), (config["output"], model.outputs)):
        expected = [(one.name, type_name(one.datatype), list(one.dims)) for one in declared]
        assert [(one["name"], one["data_type"], one["dims"]) for one in told] == expected
    assert ("dynamic_batching" in config) == ("dynamic_batching" in model.settings)


def test_config_tells_backend_and_instances(client, server):
    config = client.model_config(ADD_SUB.name)
    assert config.get("backend") == server.backend or config.get("platform")
    assert [one["kind"] for one in config["instance_group"]] == ["KIND_CPU"]
    assert sum(one["count"] for one in config["instance_group"]) >= 1


def test_config_tells_the_version_policy(client):
    assert client.model_config(VERSIONED.name)["version_policy"] == {
        "specific": {"versions": [1, 3]}
    }
    assert client.model_config(LATEST.name)["version_policy"] == {"latest": {"num_versions": 1}}


def test_config_of_a_version(client):
    assert client.model_config(VERSIONED.name, "1")["name"] == VERSIONED.name


def test_config_of_what_is_not_there(client):
    with refused(client, Status.NOT_FOUND, says=["no_such_model"]):
        client.model_config("no_such_model")
    with refused(client, Status.NOT_FOUND, says=[VERSIONED.name, "2"]):
        client.model_config(VERSIONED.name, "2")
