"""What gRPC clients in other languages do: Triton's messages without Triton's Python client."""

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from suite.differences import differs
from suite.models import ADD_SUB, DATATYPES, IDENTITIES, VECTOR
from suite.tensors import values
from tritonclient.grpc import service_pb2, service_pb2_grpc

SERVICE = "inference.GRPCInferenceService"
DEADLINE_SECONDS = 60

CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.grpc) as opened:
        yield opened


@pytest.fixture
def stub(channel):
    return service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request(model, *tensors):
    """A request with typed contents: (name, datatype, shape, field, elements) each."""
    message = service_pb2.ModelInferRequest(model_name=model)
    for name, datatype, shape, field, elements in tensors:
        tensor = message.inputs.add(name=name, datatype=datatype, shape=shape)
        if field:
            getattr(tensor.contents, field).extend(elements)
    return message


def refused(call, message, *codes):
    with pytest.raises(grpc.RpcError) as raised:
        call(message, timeout=DEADLINE_SECONDS)
    assert raised.value.code() in codes, raised.value.details()
    return raised.value.details()


def elements_of(response, index=0):
    """The elements of an output, in whichever of its two forms it came."""
    output = response.outputs[index]
    if response.raw_output_contents:
        raw = response.raw_output_contents[index]
        if output.datatype == "BYTES":
            return list(texts_in(raw))
        return np.frombuffer(raw, np.dtype(values(output.datatype).dtype)).tolist()
    return list(getattr(output.contents, CONTENTS[output.datatype]))


def texts_in(raw):
    while raw:
        length = int.from_bytes(raw[:4], "little")
        yield raw[4 : 4 + length]
        raw = raw[4 + length :]


@pytest.mark.parametrize("datatype", CONTENTS)
def test_typed_contents(stub, datatype):
    sent = values(datatype).ravel().tolist()
    message = request(
        IDENTITIES[datatype].name, ("INPUT", datatype, [2, 3], CONTENTS[datatype], sent)
    )
    response = stub.ModelInfer(message, timeout=DEADLINE_SECONDS)
    assert elements_of(response) == sent
    assert (response.model_name, response.model_version) == (IDENTITIES[datatype].name, "1")


def test_the_form_of_the_answer(stub, server):
    """A client that wrote typed contents may not be able to read raw ones."""
    message = request(VECTOR.name, ("INPUT", "FP32", [2], "fp32_contents", [1, 2]))
    response = stub.ModelInfer(message, timeout=DEADLINE_SECONDS)
    expected = differs("form-of-an-answer", server, ours="contents", theirs="raw")
    assert ("raw" if response.raw_output_contents else "contents") == expected

    message = request(VECTOR.name, ("INPUT", "FP32", [1], None, ()))
    message.raw_input_contents.append(np.float32(3).tobytes())
    response = stub.ModelInfer(message, timeout=DEADLINE_SECONDS)
    assert list(response.raw_output_contents) == [np.float32(3).tobytes()]
    assert not response.outputs[0].HasField("contents")


def test_contents_and_raw_at_once(stub):
    message = request(VECTOR.name, ("INPUT", "FP32", [1], "fp32_contents", [1]))
    message.raw_input_contents.append(np.float32(3).tobytes())
    refused(stub.ModelInfer, message, grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_fewer_or_more_raw_contents_than_inputs(stub, server, count):
    row = np.zeros((1, 4), np.float32)
    message = request(
        ADD_SUB.name, ("INPUT0", "FP32", [1, 4], None, ()), ("INPUT1", "FP32", [1, 4], None, ())
    )
    message.raw_input_contents.extend([row.tobytes()] * count)
    if count > 2 and differs("raw-contents-too-many", server, ours=False, theirs=True):
        assert stub.ModelInfer(message, timeout=DEADLINE_SECONDS).outputs
    else:
        refused(stub.ModelInfer, message, grpc.StatusCode.INVALID_ARGUMENT)


def test_contents_of_another_datatype(stub):
    message = request(VECTOR.name, ("INPUT", "FP32", [1], "int_contents", [1]))
    refused(stub.ModelInfer, message, grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize("count", [1, 3])
def test_fewer_or_more_elements_than_the_shape(stub, count):
    message = request(VECTOR.name, ("INPUT", "FP32", [2], "fp32_contents", [1] * count))
    refused(stub.ModelInfer, message, grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize(
    ("datatype", "number"), [("INT8", 128), ("INT16", -(2**15) - 1), ("UINT8", 256)]
)
def test_contents_that_the_datatype_has_not(stub, server, datatype, number):
    message = request(
        IDENTITIES[datatype].name, ("INPUT", datatype, [1, 1], CONTENTS[datatype], [number])
    )
    if differs("numbers-out-of-range", server, ours="refused", theirs="wrapped") == "refused":
        refused(stub.ModelInfer, message, grpc.StatusCode.INVALID_ARGUMENT)
    else:
        assert elements_of(stub.ModelInfer(message, timeout=DEADLINE_SECONDS)) != [number]


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_has_no_typed_contents(stub, datatype):
    message = request(IDENTITIES[datatype].name, ("INPUT", datatype, [1, 1], "fp32_contents", [1]))
    refused(stub.ModelInfer, message, grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_raw_contents_of_another_size(stub, datatype):
    message = request(IDENTITIES[datatype].name, ("INPUT", datatype, [1, 3], None, ()))
    message.raw_input_contents.append(b"\x01\x00\x00\x00\x00")
    refused(stub.ModelInfer, message, grpc.StatusCode.INVALID_ARGUMENT)


def test_several_typed_inputs(stub):
    message = request(
        ADD_SUB.name,
        ("INPUT1", "FP32", [1, 4], "fp32_contents", [1, 1, 1, 1]),
        ("INPUT0", "FP32", [1, 4], "fp32_contents", [1, 2, 3, 4]),
    )
    message.outputs.add(name="DIFFERENCE")
    response = stub.ModelInfer(message, timeout=DEADLINE_SECONDS)
    assert [one.name for one in response.outputs] == ["DIFFERENCE"]
    assert elements_of(response) == [0, 1, 2, 3]


def test_standard_health_service(channel, server):
    health = health_pb2_grpc.HealthStub(channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    # Triton is not ready once a load has failed, which other tests have seen to.
    unready = health_pb2.HealthCheckResponse.NOT_SERVING
    statuses = differs("readiness", server, ours=[serving], theirs=[serving, unready])
    for service in ("", SERVICE):
        answer = health.Check(
            health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE_SECONDS
        )
        assert answer.status in statuses, service


def test_reflection(channel, server):
    """The service describes itself with the messages that Triton's client has compiled in."""
    database = ProtoReflectionDescriptorDatabase(channel)
    if not differs("reflection", server, ours=True, theirs=False):
        with pytest.raises(grpc.RpcError) as raised:
            database.get_services()
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
        return
    assert SERVICE in database.get_services()
    described = database.FindFileContainingSymbol(SERVICE)
    (told,) = (one for one in described.service if one.name == SERVICE.rpartition(".")[2])
    compiled = service_pb2.DESCRIPTOR.services_by_name[told.name]
    calls = {one.name: (one.input_type, one.output_type) for one in told.method}
    for method in compiled.methods:
        expected = (f".{method.input_type.full_name}", f".{method.output_type.full_name}")
        assert calls.get(method.name, expected) == expected


def test_a_call_that_does_not_exist(channel):
    call = channel.unary_unary(
        f"/{SERVICE}/NoSuchCall",
        request_serializer=lambda message: message,
        response_deserializer=lambda message: message,
    )
    refused(call, b"", grpc.StatusCode.UNIMPLEMENTED)


def test_a_message_that_is_none(channel):
    call = channel.unary_unary(
        f"/{SERVICE}/ModelInfer",
        request_serializer=lambda message: message,
        response_deserializer=lambda message: message,
    )
    refused(call, b"\xff\xff\xff", grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT)


def test_the_deadline_of_a_call(stub):
    message = request("wait", ("MILLISECONDS", "INT64", [1, 1], "int64_contents", [1490]))
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(message, timeout=0.2)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
