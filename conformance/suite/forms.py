"""The forms in which a request may be put to a server.

A form is an object with `name` and `infer(model, feeds) -> Answer`, which may be given parameters
of the request beside; it raises `Refused` where the server answers with an error, and
`AssertionError` where an answer breaks the protocol. REST is spoken by hand over `http.client`, so
that nothing comes between the bytes and the tests; gRPC by the stubs of NVIDIA's client. One object
serves one thread.
"""

import http.client
import json
from dataclasses import dataclass

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from .datatypes import FLOATS, datatype_of, from_json, from_raw_bytes, raw_bytes, to_json

DEADLINE_SECONDS = 120
MESSAGE_BYTES_MAX = 256 << 20
HEAD_LENGTH = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    outputs: dict
    """Arrays by name, in the order of the answer."""
    parameters: dict
    """What the server tells beside: `batch_size`, `cache` and so on."""


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, status, text):
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


class Rest:
    """What both forms of REST have in common: a connection, and requests in JSON."""

    def __init__(self, address):
        self._connection = http.client.HTTPConnection(address, timeout=DEADLINE_SECONDS)

    def close(self):
        self._connection.close()

    def post(self, path, body, headers=None):
        """The answer's headers and body."""
        try:
            self._connection.request("POST", path, body, headers or {})
            response = self._connection.getresponse()
            content = response.read()
        except (http.client.HTTPException, OSError):
            # What is left of the exchange must not be taken for the next answer.
            self._connection.close()
            raise
        if response.status != 200:
            error = json.loads(content)
            assert isinstance(error.get("error"), str), f"not the shape of an error: {error}"
            raise Refused(response.status, error["error"])
        return response.headers, content

    def head(self, feeds, **more):
        inputs = [
            {"name": name, "shape": list(array.shape), "datatype": datatype_of(array)}
            for name, array in feeds.items()
        ]
        return {"inputs": inputs, **more}


class RestJson(Rest):
    """Tensors as JSON; NaN and infinities, which JSON lacks, bare."""

    name = "REST JSON"

    def infer(self, model, feeds, **parameters):
        request = self.head(feeds, parameters={"allow_nan": True, **parameters})
        for described, array in zip(request["inputs"], feeds.values(), strict=True):
            described["data"] = to_json(array)
        headers, content = self.post(f"/v2/models/{model}/infer", json.dumps(request))
        assert HEAD_LENGTH not in headers, "binary data in an answer for which JSON was asked"
        answer = json.loads(content)
        assert answer["model_name"] == model
        outputs = {
            output["name"]: from_json(output["data"], output["datatype"], output["shape"])
            for output in answer["outputs"]
        }
        return Answer(outputs, answer.get("parameters", {}))


class RestBinary(Rest):
    """Tensors raw behind a head in JSON."""

    name = "REST binary"

    def infer(self, model, feeds, **parameters):
        raw = [raw_bytes(array) for array in feeds.values()]
        request = self.head(feeds, parameters={"binary_data_output": True, **parameters})
        for described, data in zip(request["inputs"], raw, strict=True):
            described["parameters"] = {"binary_data_size": len(data)}
        head = json.dumps(request).encode()
        headers, content = self.post(
            f"/v2/models/{model}/infer",
            b"".join([head, *raw]),
            {"Content-Type": "application/octet-stream", HEAD_LENGTH: str(len(head))},
        )
        end_of_head = int(headers[HEAD_LENGTH]) if HEAD_LENGTH in headers else len(content)
        answer = json.loads(content[:end_of_head])
        assert answer["model_name"] == model
        outputs = self.read_outputs(answer["outputs"], memoryview(content)[end_of_head:])
        return Answer(outputs, answer.get("parameters", {}))

    @staticmethod
    def read_outputs(described, raw):
        outputs = {}
        for output in described:
            assert "data" not in output, "JSON data where binary was asked"
            size = output["parameters"]["binary_data_size"]
            assert size <= len(raw), "the body ends before its last tensor"
            data, raw = raw[:size], raw[size:]
            outputs[output["name"]] = from_raw_bytes(data, output["datatype"], output["shape"])
        assert not raw, "bytes behind the last tensor"
        return outputs


# The interface has no field for FP16 and BF16.
TYPED_FIELDS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


PARAMETER_FIELDS = {bool: "bool_param", int: "int64_param", str: "string_param"}


class Grpc:
    """What both forms of gRPC have in common: a channel, and the head of requests."""

    def __init__(self, address):
        options = [
            ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
            ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
        ]
        self._channel = grpc.insecure_channel(address, options)
        self._service = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    def close(self):
        self._channel.close()

    def infer(self, model, feeds, **parameters):
        request = service_pb2.ModelInferRequest(model_name=model)
        for name, value in parameters.items():
            setattr(request.parameters[name], PARAMETER_FIELDS[type(value)], value)
        for name, array in feeds.items():
            request.inputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
        self.fill(request, feeds.values())
        try:
            response = self._service.ModelInfer(request, timeout=DEADLINE_SECONDS)
        except grpc.RpcError as error:
            raise Refused(error.code().name, error.details()) from None
        assert response.model_name == model
        parameters = {
            name: getattr(value, value.WhichOneof("parameter_choice"))
            for name, value in response.parameters.items()
        }
        return Answer(self.read(response), parameters)


class GrpcRaw(Grpc):
    """Tensors raw beside the message's other fields."""

    name = "gRPC"

    @staticmethod
    def fill(request, arrays):
        request.raw_input_contents.extend(raw_bytes(array) for array in arrays)

    @staticmethod
    def read(response):
        pairs = zip(response.outputs, response.raw_output_contents, strict=True)
        return {
            output.name: from_raw_bytes(data, output.datatype, list(output.shape))
            for output, data in pairs
        }


class GrpcTyped(Grpc):
    """Tensors in the message's typed fields; raw where the interface has no field."""

    name = "gRPC typed"

    def fill(self, request, arrays):
        arrays = list(arrays)
        if any(datatype_of(array) not in TYPED_FIELDS for array in arrays):
            GrpcRaw.fill(request, arrays)
            return
        for described, array in zip(request.inputs, arrays, strict=True):
            elements = to_json(array)
            if described.datatype == "BYTES":
                elements = [text.encode() for text in elements]
            getattr(described.contents, TYPED_FIELDS[described.datatype]).extend(elements)

    def read(self, response):
        if response.raw_output_contents:
            return GrpcRaw.read(response)
        return {output.name: self.read_one(output) for output in response.outputs}

    def read_one(self, output):
        elements = list(getattr(output.contents, TYPED_FIELDS[output.datatype]))
        if output.datatype == "BYTES":
            elements = [text.decode() for text in elements]
        elif output.datatype in FLOATS:
            elements = [float(element) for element in elements]
        return from_json(elements, output.datatype, list(output.shape))


FORMS = (RestBinary, RestJson, GrpcRaw, GrpcTyped)
