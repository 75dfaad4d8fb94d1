"""KServe's own Python client, over both protocols.

In a folder and an environment of its own: its messages have the names of Triton's, and one process
cannot have both.
"""

import asyncio
import logging

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceGRPCClient, InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from suite.models import ADD_SUB, DATATYPES, IDENTITIES, LOOKUP, VECTOR
from suite.tensors import ARBITRARY_BYTES, assert_same, texts, values

# The client knows no BF16, and refuses FP16 in JSON itself.
KSERVE_DATATYPES = [datatype for datatype in DATATYPES if datatype != "BF16"]
JSON_DATATYPES = [datatype for datatype in KSERVE_DATATYPES if datatype != "FP16"]


class Rest:
    """The REST client, with the address that each of its calls wants."""

    def __init__(self, server):
        self._base = f"http://{server.http}"

    def _call(self, method, *arguments):
        async def called():
            async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as client:
                return await getattr(client, method)(self._base, *arguments)

        return asyncio.run(called())

    def live(self):
        return self._call("is_server_live")

    def ready(self):
        return self._call("is_server_ready")

    def model_ready(self, model):
        return self._call("is_model_ready", model)

    def infer(self, request):
        return self._call("infer", request, request.model_name)


class Grpc:
    def __init__(self, server):
        self._address = server.grpc

    def _call(self, method, *arguments):
        async def called():
            async with InferenceGRPCClient(self._address) as client:
                return await getattr(client, method)(*arguments)

        return asyncio.run(called())

    def live(self):
        return self._call("is_server_live")

    def ready(self):
        return self._call("is_server_ready")

    def model_ready(self, model):
        return self._call("is_model_ready", model)

    def infer(self, request):
        return self._call("infer", request)


@pytest.fixture(params=[Rest, Grpc], ids=["rest", "grpc"])
def client(server, request):
    return request.param(server)


@pytest.fixture
def rest(server):
    return Rest(server)


@pytest.fixture(autouse=True)
def quiet():
    """The client logs what it raises."""
    logging.getLogger("kserve").setLevel(logging.CRITICAL)


def tensor(name, array, datatype, binary=True):
    given = InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def request(model, *inputs, wanted=None, **more):
    return InferRequest(model.name, list(inputs), request_outputs=wanted, **more)


def output(response, name="OUTPUT"):
    (found,) = (one for one in response.outputs if one.name == name)
    return found.as_numpy()


def test_health(client):
    assert client.live() is True
    assert client.ready() is True
    assert client.model_ready(ADD_SUB.name) is True


def test_an_unknown_model_is_not_ready(client):
    assert client.model_ready("no_such_model") is False


@pytest.mark.parametrize("datatype", KSERVE_DATATYPES)
def test_every_datatype_in_binary(client, datatype):
    sent = values(datatype)
    response = client.infer(
        request(
            IDENTITIES[datatype],
            tensor("INPUT", sent, datatype),
            wanted=[RequestedOutput("OUTPUT", {"binary_data": True})],
            request_id="seven",
        )
    )
    assert_same(output(response), sent)
    assert (response.model_name, response.id) == (IDENTITIES[datatype].name, "seven")


@pytest.mark.parametrize("datatype", JSON_DATATYPES)
def test_every_datatype_in_json(rest, datatype):
    sent = values(datatype)
    response = rest.infer(request(IDENTITIES[datatype], tensor("INPUT", sent, datatype, False)))
    assert_same(output(response), sent)


def test_any_bytes(server):
    """Over gRPC: the REST client takes every answer for UTF-8, one in binary as well."""
    sent = texts(ARBITRARY_BYTES)
    response = Grpc(server).infer(request(IDENTITIES["BYTES"], tensor("INPUT", sent, "BYTES")))
    assert_same(output(response), sent)


def test_several_inputs_and_outputs(client):
    row = np.array([[1, 2, 3, 4]], np.float32)
    inputs = [tensor(name, row, "FP32") for name in ("INPUT0", "INPUT1")]
    response = client.infer(request(ADD_SUB, *inputs))
    assert_same(output(response, "SUM"), row + row)
    assert_same(output(response, "DIFFERENCE"), row - row)


@pytest.mark.parametrize(
    ("model", "name", "array", "datatype", "http", "code"),
    [
        ("no_such_model", "INPUT", np.zeros(1, np.float32), "FP32", 404, "NOT_FOUND"),
        (VECTOR.name, "NOPE", np.zeros(1, np.float32), "FP32", 400, "INVALID_ARGUMENT"),
        (VECTOR.name, "INPUT", np.zeros(1, np.int32), "INT32", 400, "INVALID_ARGUMENT"),
        (LOOKUP.name, "INDICES", np.array([99]), "INT64", 400, "INVALID_ARGUMENT"),
    ],
)
def test_refusals(client, model, name, array, datatype, http, code):
    asked = InferRequest(model, [tensor(name, array, datatype)])
    with pytest.raises((httpx.HTTPStatusError, grpc.RpcError)) as raised:
        client.infer(asked)
    error = raised.value
    if isinstance(error, httpx.HTTPStatusError):
        assert error.response.status_code == http
        assert error.response.json()["error"] in str(error)
    else:
        assert error.code() == getattr(grpc.StatusCode, code)
        assert error.details()
