"""Every datatype there and back, bit for bit, in every form that a client can choose."""

import numpy as np
import pytest
from suite.differences import differs
from suite.models import DATATYPES, IDENTITIES, MIXED, SCALAR
from suite.statuses import Status, refused
from suite.tensors import ARBITRARY_BYTES, assert_same, not_finite, texts, values

FORMS = [(True, True), (True, False), (False, True), (False, False)]
FORM_NAMES = ["binary-binary", "binary-json", "json-binary", "json-json"]
# The client refuses to write BF16 as JSON; test_plain_http.py does it without the client.
JSON_DATATYPES = [datatype for datatype in DATATYPES if datatype != "BF16"]


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back_as_it_went(client, datatype):
    sent = values(datatype)
    model = IDENTITIES[datatype]
    result = client.infer(model.name, [client.tensor("INPUT", sent)])
    assert_same(result.as_numpy("OUTPUT"), sent)
    (output,) = client.answer(result)["outputs"]
    assert output["datatype"] == datatype


@pytest.mark.parametrize(("binary_in", "binary_out"), FORMS, ids=FORM_NAMES)
@pytest.mark.parametrize("datatype", JSON_DATATYPES)
def test_every_datatype_in_json_and_binary(http_client, server, datatype, binary_in, binary_out):
    sent = values(datatype)

    def answer():
        return http_client.infer(
            IDENTITIES[datatype].name,
            [http_client.tensor("INPUT", sent, binary=binary_in)],
            [http_client.wanted("OUTPUT", binary=binary_out)],
        )

    in_json = not (binary_in and binary_out)
    if datatype == "FP16" and in_json and differs("half-in-json", server, ours=False, theirs=True):
        with refused(http_client, Status.INVALID, says=["FP16"]):
            answer()
        return
    result = answer()
    assert_same(result.as_numpy("OUTPUT"), sent)
    (output,) = result.get_response()["outputs"]
    assert ("data" in output) != binary_out


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "BF16"])
def test_what_is_not_finite_comes_back_in_binary(client, datatype):
    sent = not_finite(datatype)
    result = client.infer(IDENTITIES[datatype].name, [client.tensor("INPUT", sent)])
    assert_same(result.as_numpy("OUTPUT"), sent)


def test_any_bytes_come_back(client):
    sent = texts(ARBITRARY_BYTES)
    result = client.infer("identity_bytes", [client.tensor("INPUT", sent)])
    assert_same(result.as_numpy("OUTPUT"), sent)


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)], ids=str)
def test_a_tensor_of_no_elements(client, datatype, shape):
    sent = values(datatype, shape)
    result = client.infer(IDENTITIES[datatype].name, [client.tensor("INPUT", sent)])
    assert_same(result.as_numpy("OUTPUT"), sent)


@pytest.mark.parametrize(("binary_in", "binary_out"), FORMS, ids=FORM_NAMES)
def test_a_tensor_of_no_elements_in_json(http_client, binary_in, binary_out):
    sent = values("FP32", (0, 3))
    result = http_client.infer(
        "identity_fp32",
        [http_client.tensor("INPUT", sent, binary=binary_in)],
        [http_client.wanted("OUTPUT", binary=binary_out)],
    )
    assert_same(result.as_numpy("OUTPUT"), sent)


@pytest.mark.parametrize(("binary_in", "binary_out"), FORMS, ids=FORM_NAMES)
def test_a_scalar(client, server, binary_in, binary_out):
    if server.is_triton:
        pytest.skip("test_life_cycle.py shows that it has no such models")
    sent = np.array(0.1)
    result = client.infer(
        SCALAR.name,
        [client.tensor("INPUT", sent, binary=binary_in)],
        [client.wanted("OUTPUT", binary=binary_out)],
    )
    assert_same(result.as_numpy("OUTPUT"), sent)


def mixed_inputs(client, count, binary=True):
    sent = {
        "FLAGS": values("BOOL", (count,)),
        "NUMBERS": values("INT64", (count + 1,)),
        "TEXTS": values("BYTES", (count + 2,)),
        "HALVES": values("FP16", (count + 3,)),
    }
    return sent, [client.tensor(name, array, binary=binary) for name, array in sent.items()]


def test_several_inputs_and_outputs(client):
    sent, inputs = mixed_inputs(client, 5)
    result = client.infer(MIXED.name, inputs)
    assert [one["name"] for one in client.answer(result)["outputs"]] == [
        one.name for one in MIXED.outputs
    ]
    for name, array in sent.items():
        assert_same(result.as_numpy(f"{name}_OUT"), array)


def test_inputs_in_another_order(client):
    sent, inputs = mixed_inputs(client, 4)
    result = client.infer(MIXED.name, inputs[::-1])
    for name, array in sent.items():
        assert_same(result.as_numpy(f"{name}_OUT"), array)


def test_only_the_outputs_asked_for(client):
    sent, inputs = mixed_inputs(client, 3)
    asked = ["FLAGS_OUT", "TEXTS_OUT"]
    result = client.infer(MIXED.name, inputs, [client.wanted(name) for name in asked])
    assert {one["name"] for one in client.answer(result)["outputs"]} == set(asked)
    assert_same(result.as_numpy("FLAGS_OUT"), sent["FLAGS"])
    assert_same(result.as_numpy("TEXTS_OUT"), sent["TEXTS"])


def test_each_input_and_output_in_its_own_form(http_client):
    sent, inputs = mixed_inputs(http_client, 3)
    _, in_json = mixed_inputs(http_client, 3, binary=False)
    result = http_client.infer(
        MIXED.name,
        [in_json[0], inputs[1], in_json[2], inputs[3]],
        [http_client.wanted(one.name, binary=i % 2 == 0) for i, one in enumerate(MIXED.outputs)],
    )
    for name, array in sent.items():
        assert_same(result.as_numpy(f"{name}_OUT"), array)


def test_a_tensor_of_four_megabytes(client):
    sent = np.random.default_rng(7).standard_normal((1024, 1024)).astype(np.float32)
    result = client.infer("identity_fp32", [client.tensor("INPUT", sent)])
    assert_same(result.as_numpy("OUTPUT"), sent)
