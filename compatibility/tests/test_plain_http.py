"""What the protocol allows and Triton's client does not do: asked with nothing but HTTP."""

import http.client
import json
import struct

import numpy as np
import pytest
from suite.differences import differs
from suite.models import ADD_SUB, IDENTITIES, MODELS, VECTOR, VERSIONED
from suite.tensors import NUMPY_TYPES, assert_same

HEADER = "Inference-Header-Content-Length"
OCTETS = "application/octet-stream"


def malformed(server):
    """What a body that cannot be read is called."""
    return differs("malformed-body", server, ours=[400], theirs=[400, 500])


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    def split(self):
        """The JSON head and the raw tensors behind it."""
        length = int(self.headers[HEADER])
        return json.loads(self.body[:length]), self.body[length:]


@pytest.fixture
def ask(server):
    connection = http.client.HTTPConnection(server.http, timeout=60)

    def asked(method, path, body=None, **headers):
        if isinstance(body, dict):
            body = json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        return Answer(connection.getresponse())

    yield asked
    connection.close()


def inputs(data, shape, datatype="FP32", **more):
    return {
        "inputs": [{"name": "INPUT", "shape": shape, "datatype": datatype, "data": data}],
        **more,
    }


def infer_path(model):
    return f"/v2/models/{model}/infer"


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]], ids=str)
def test_flat_and_nested_data(ask, data):
    answer = ask("POST", infer_path("identity_fp32"), inputs(data, [2, 3]))
    assert answer.status == 200, answer.body
    (output,) = answer.json()["outputs"]
    assert (output["shape"], output["data"]) == ([2, 3], [1, 2, 3, 4, 5, 6])


def test_data_nested_in_another_shape(ask, server):
    """The same number of elements, but somebody is mistaken about the shape."""
    answer = ask("POST", infer_path("identity_fp32"), inputs([[1, 2], [3, 4], [5, 6]], [2, 3]))
    assert answer.status == differs("nesting-of-data", server, ours=400, theirs=200), answer.body


def test_an_answer_is_json_unless_asked_otherwise(ask):
    answer = ask("POST", infer_path("identity_fp32"), inputs([1.5], [1, 1], id="seven"))
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers[HEADER] is None
    told = answer.json()
    assert (told["model_name"], told["model_version"]) == ("identity_fp32", "1")
    assert told["id"] == "seven"


def test_an_answer_to_a_request_without_an_id(ask, server):
    told = ask("POST", infer_path("identity_fp32"), inputs([1.5], [1, 1])).json()
    assert bool(told.get("id")) is differs("made-ids", server, ours=True, theirs=False)


def test_an_answer_says_where_it_comes_from(ask, server):
    told = ask("POST", infer_path("identity_fp32"), inputs([1.5], [1, 1])).json()
    parameters = differs(
        "parameters-of-an-answer", server, ours={"node_id", "cached"}, theirs=set()
    )
    assert parameters <= set(told.get("parameters", {}))
    assert bool(parameters) == ("parameters" in told)


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_health_for_people(ask, server, path):
    body = ask("GET", path).body
    assert bool(body) is differs("health-bodies", server, ours=True, theirs=False)


def test_all_outputs_in_binary(ask):
    body = inputs([1.5, 2.5], [1, 2], parameters={"binary_data_output": True})
    head, tensors = ask("POST", infer_path("identity_fp32"), body).split()
    assert head["outputs"][0]["parameters"]["binary_data_size"] == 8
    assert tensors == struct.pack("<2f", 1.5, 2.5)


def test_an_outputs_own_form_goes_before_that_of_all(ask):
    body = inputs(
        [1.5],
        [1, 1],
        parameters={"binary_data_output": True},
        outputs=[{"name": "OUTPUT", "parameters": {"binary_data": False}}],
    )
    answer = ask("POST", infer_path("identity_fp32"), body)
    assert answer.json()["outputs"][0]["data"] == [1.5]


def raw_request(array, head_length, **parameters):
    head = {
        "inputs": [
            {
                "name": "INPUT",
                "shape": list(array.shape),
                "datatype": "FP32",
                **({"parameters": parameters} if parameters else {}),
            }
        ]
    }
    encoded = json.dumps(head).encode()
    return encoded + array.tobytes(), {HEADER: str(head_length or len(encoded))}


def test_raw_tensors_without_their_size(ask, server):
    """Shape and datatype say it."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    body, headers = raw_request(array, None)
    answer = ask("POST", infer_path("identity_fp32"), body, **headers)
    if differs("binary-size-left-out", server, ours=True, theirs=False):
        assert answer.status == 200, answer.body
        assert answer.json()["outputs"][0]["data"] == list(range(6))
    else:
        assert answer.status == 400


@pytest.mark.parametrize("off_by", [-1, 1, 1000])
def test_a_head_length_that_lies(ask, server, off_by):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    body, headers = raw_request(array, None, binary_data_size=24)
    headers[HEADER] = str(int(headers[HEADER]) + off_by)
    answer = ask("POST", infer_path("identity_fp32"), body, **headers)
    assert answer.status in malformed(server), answer.body
    assert answer.json()["error"]


@pytest.mark.parametrize("size", [0, 20, 28, -24, 2**62])
def test_a_tensor_size_that_lies(ask, server, size):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    body, headers = raw_request(array, None, binary_data_size=size)
    answer = ask("POST", infer_path("identity_fp32"), body, **headers)
    assert answer.status in malformed(server), answer.body
    assert answer.json()["error"]


def test_a_body_that_is_one_tensor(ask):
    """Header length 0: the model says name, datatype and shape."""
    sent = np.arange(5, dtype=np.float32)
    answer = ask(
        "POST",
        infer_path(VECTOR.name),
        sent.tobytes(),
        **{HEADER: "0", "Content_Type": OCTETS},
    )
    assert answer.status == 200, answer.body
    head, tensors = answer.split()
    assert head["outputs"][0]["shape"] == [5]
    assert tensors == sent.tobytes()


@pytest.mark.parametrize("model", [ADD_SUB.name, "identity_fp32"])
def test_a_body_that_is_one_tensor_needs_a_model_that_says_its_shape(ask, model):
    answer = ask("POST", infer_path(model), bytes(16), **{HEADER: "0", "Content_Type": OCTETS})
    assert answer.status == 400, answer.body


HALVES = [0, 1.5, -2, 65504, 0.0999755859375]


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_in_json(ask, server, datatype):
    data = HALVES if datatype == "FP16" else [0, 1.5, -2, 65536, 0.10009765625]
    model = IDENTITIES[datatype].name
    answer = ask("POST", infer_path(model), inputs(data, [1, 5], datatype))
    if differs("half-in-json", server, ours=True, theirs=False):
        assert answer.status == 200, answer.body
        # Fewer digits may say the same number of this datatype.
        told = np.array(answer.json()["outputs"][0]["data"], NUMPY_TYPES[datatype])
        assert_same(told, np.array(data, NUMPY_TYPES[datatype]))
    else:
        assert answer.status == 400


def test_numbers_that_json_has_not(ask, server):
    body = inputs([float("nan"), float("inf"), -float("inf")], [1, 3])
    assert "NaN" in json.dumps(body)
    answer = ask("POST", infer_path("identity_fp32"), body)
    if differs("not-finite-in-json", server, ours="refused", theirs="written") == "refused":
        # Read, as the next request shows, but not written: JSON has no such numbers.
        assert answer.status == 400, answer.body
        assert "binary" in answer.json()["error"].lower()
    else:
        assert answer.status == 200
        assert b"NaN,Infinity,-Infinity" in answer.body
    body["parameters"] = {"binary_data_output": True}
    _, tensors = ask("POST", infer_path("identity_fp32"), body).split()
    numbers = np.frombuffer(tensors, np.float32)
    assert np.isnan(numbers[0])
    assert list(numbers[1:]) == [np.inf, -np.inf]


@pytest.mark.parametrize(
    ("datatype", "number"),
    [
        *(("UINT8", n) for n in (-1, 256)),
        *(("INT8", n) for n in (-129, 128)),
        *(("INT64", n) for n in (2**63, -(2**63) - 1)),
        *(("UINT64", n) for n in (-1, 2**64)),
        ("INT32", 1.5),
        ("INT32", "1"),
        ("FP32", "1.5"),
        ("FP32", None),
        ("FP32", True),
        ("BOOL", "true"),
        ("BYTES", 1),
    ],
)
def test_a_number_that_the_datatype_has_not(ask, server, datatype, number):
    answer = ask("POST", infer_path(IDENTITIES[datatype].name), inputs([number], [1, 1], datatype))
    wrapped = (datatype, number) in WRAPPED_BY_TRITON
    assert answer.status in differs(
        "numbers-out-of-range", server, ours=[400], theirs=[200] if wrapped else [400, 500]
    ), answer.body


# 256 arrives as 0, and so on.
WRAPPED_BY_TRITON = {("UINT8", 256), ("INT8", -129), ("INT8", 128)}


@pytest.mark.parametrize("data", [[1, 2, 3], [1, 2, 3, 4, 5], [], [[1, 2], [3]]], ids=str)
def test_too_few_or_too_many_elements(ask, server, data):
    answer = ask("POST", infer_path("identity_fp32"), inputs(data, [2, 2]))
    assert answer.status in malformed(server), answer.body
    assert differs("malformed-body", server, ours="INPUT", theirs="data") in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", '"text"', "{}", '{"inputs": 3}', '{"inputs": []}', '{"inputs": [{}]}'],
    ids=repr,
)
def test_a_body_that_is_no_request(ask, server, body):
    answer = ask("POST", infer_path("identity_fp32"), body)
    assert answer.status in malformed(server)
    assert answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", infer_path("vector"), 405),
        ("POST", "/v2/models/vector", 405),
        ("GET", "/v2/nowhere", 404),
        ("GET", "/v2/models/vector/nowhere", 404),
        ("GET", "/v2/models/no_such_model", 404),
        ("DELETE", "/v2", 405),
    ],
)
def test_paths_and_methods(ask, method, path, status):
    answer = ask(method, path)
    assert answer.status == status
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/versioned",
        "/v2/models/versioned/ready",
        "/v2/models/versioned/config",
        "/v2/models/versioned/stats",
        "/v2/models/versioned/versions/1",
        "/v2/models/versioned/versions/1/ready",
        "/v2/models/versioned/versions/1/config",
        "/v2/models/versioned/versions/1/stats",
        "/v2/models/stats",
    ],
)
def test_every_path_answers(ask, server, path):
    # Triton is not ready once a load has failed, which other tests have seen to.
    statuses = (
        differs("readiness", server, ours=[200], theirs=[200, 400])
        if path == "/v2/health/ready"
        else [200]
    )
    assert ask("GET", path).status in statuses


def test_index_of_the_ready_ones_only(ask, server):
    folder = server.repository / "not_loaded" / "1"
    folder.mkdir(parents=True, exist_ok=True)
    (server.repository / "not_loaded" / "config.pbtxt").write_text("max_batch_size: 0\n")
    (folder / "model.onnx").write_bytes(b"")
    listed = {one["name"] for one in ask("POST", "/v2/repository/index", {}).json()}
    ready = {one["name"] for one in ask("POST", "/v2/repository/index", {"ready": True}).json()}
    assert VERSIONED.name in ready
    is_listed = differs("index-of-new-folders", server, ours=False, theirs=True)
    assert ("not_loaded" in listed) is is_listed
    assert "not_loaded" not in ready
    assert {one.name for one in MODELS if not (server.is_triton and one.inferring_only)} <= ready


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "br"])
def test_encodings_of_an_answer(ask, encoding):
    """An encoding that a server does not have is left out, not an error."""
    body = inputs([1.0] * 3000, [1, 3000])
    answer = ask("POST", infer_path("identity_fp32"), body, Accept_Encoding=encoding)
    assert answer.status == 200
    assert answer.headers["content-encoding"] in (None, encoding)


def test_an_encoding_that_does_not_exist(ask, server):
    answer = ask("POST", infer_path("identity_fp32"), b"xyz", Content_Encoding="lzw")
    assert answer.status == differs("unknown-encoding", server, ours=415, theirs=501)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_is_not_encoded_as_it_says(ask, encoding):
    answer = ask("POST", infer_path("identity_fp32"), b"{}", Content_Encoding=encoding)
    assert answer.status == 400
