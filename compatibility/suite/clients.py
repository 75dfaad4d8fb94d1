"""Triton's four Python clients behind one face, so that a test is written once.

Nothing is added to what the clients do: each method is one call of the client, and what comes
back is what the client made of it. Only the form is evened out, where the two protocols name one
thing in two ways (a list of models, numbers that protobuf's JSON writes as texts).
"""

import asyncio
import threading
from typing import ClassVar

import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import np_to_triton_dtype

# A call that takes longer is a defect; the client then raises instead of hanging.
CALL_DEADLINE_SECONDS = 60


class HttpForm:
    """How the HTTP clients, the plain one and the asynchronous one, are called."""

    protocol = "http"

    def tensor(self, name, array, binary=True, datatype=None, shape=None):
        """An input with its data."""
        shape = list(array.shape) if shape is None else shape
        given = tritonclient.http.InferInput(name, list(array.shape), datatype_of(array))
        given.set_data_from_numpy(array, binary_data=binary)
        return relabelled(given, shape, datatype)

    def wanted(self, name, binary=True, class_count=0):
        """An output that is asked for by name."""
        return tritonclient.http.InferRequestedOutput(
            name, binary_data=binary, class_count=class_count
        )

    def settings(self, compression=None, **settings):
        if compression:
            settings["request_compression_algorithm"] = compression
            settings["response_compression_algorithm"] = compression
        return settings

    @staticmethod
    def answer(result):
        return result.get_response()

    @staticmethod
    def index(index):
        return index


class GrpcForm:
    """How the gRPC clients are called."""

    protocol = "grpc"
    # Seconds, given with every call; None waits as long as it takes.
    patience = None

    def tensor(self, name, array, binary=True, datatype=None, shape=None):
        shape = list(array.shape) if shape is None else shape
        given = tritonclient.grpc.InferInput(name, list(array.shape), datatype_of(array))
        given.set_data_from_numpy(array)
        return relabelled(given, shape, datatype)

    def wanted(self, name, binary=True, class_count=0):
        return tritonclient.grpc.InferRequestedOutput(name, class_count=class_count)

    def settings(self, compression=None, **settings):
        if compression:
            settings["compression_algorithm"] = compression
        if self.patience:
            settings["client_timeout"] = self.patience
        return settings

    @staticmethod
    def answer(result):
        return result.get_response(as_json=True)

    @staticmethod
    def index(index):
        return index.get("models", [])


class Calls:
    """The calls, in the names of the client. `_call` makes one and waits for its end."""

    # Extra words for calls whose result is a message: as a dictionary, please.
    _as_json: ClassVar = {}

    def is_server_live(self):
        return self._call("is_server_live")

    def is_server_ready(self):
        return self._call("is_server_ready")

    def is_model_ready(self, model, version=""):
        return self._call("is_model_ready", model, version)

    def server_metadata(self):
        return self._call("get_server_metadata", **self._as_json)

    def model_metadata(self, model, version=""):
        got = self._call("get_model_metadata", model, version, **self._as_json)
        return numbers(got, texts=TEXTS | {"versions"})

    def model_config(self, model, version=""):
        config = self._call("get_model_config", model, version, **self._as_json)
        return numbers(config.get("config", config))

    def statistics(self, model="", version=""):
        got = self._call("get_inference_statistics", model, version, **self._as_json)
        return numbers(got)["model_stats"]

    def repository_index(self):
        return self.index(self._call("get_model_repository_index", **self._as_json))

    def load(self, model, config=None, files=None):
        return self._call("load_model", model, config=config, files=files)

    def unload(self, model):
        return self._call("unload_model", model)

    def infer(self, model, inputs, outputs=None, version="", **settings):
        return self._call(
            "infer",
            model,
            inputs,
            model_version=version,
            outputs=outputs,
            **self.settings(**settings),
        )

    def other(self, method, *arguments, **keywords):
        """A call of the client that has no name here."""
        return self._call(method, *arguments, **keywords)


class Blocking(Calls):
    def _call(self, method, *arguments, **keywords):
        return getattr(self._client, method)(*arguments, **keywords)

    def close(self):
        self._client.close()


class Http(HttpForm, Blocking):
    def __init__(self, address, patience=CALL_DEADLINE_SECONDS):
        self._client = tritonclient.http.InferenceServerClient(
            address, concurrency=8, network_timeout=patience
        )

    def infer_all(self, requests):
        """All at once; the results in the order of the requests."""
        calls = [
            self._client.async_infer(model, inputs, **settings)
            for model, inputs, settings in requests
        ]
        return [call.get_result(timeout=CALL_DEADLINE_SECONDS) for call in calls]


class Grpc(GrpcForm, Blocking):
    _as_json: ClassVar = {"as_json": True}

    def __init__(self, address, patience=None):
        self._client = tritonclient.grpc.InferenceServerClient(address)
        self.patience = patience

    def infer_all(self, requests):
        ends = []
        for model, inputs, settings in requests:
            end = Ending()
            self._client.async_infer(model, inputs, end, **settings)
            ends.append(end)
        return [end.result() for end in ends]

    def stream(self, requests, **settings):
        """Sends all requests over one stream; what came back, in the order of arrival."""
        arrived, all_there = [], threading.Event()

        def heard(result, error):
            arrived.append((result, error))
            if len(arrived) == len(requests):
                all_there.set()

        self._client.start_stream(heard, stream_timeout=CALL_DEADLINE_SECONDS, **settings)
        try:
            for model, inputs, more in requests:
                self._client.async_stream_infer(model, inputs, **more)
            all_there.wait(CALL_DEADLINE_SECONDS)
        finally:
            self._client.stop_stream()
        return arrived


class Ending:
    """What a callback was called with, to be waited for."""

    def __init__(self):
        self._called = threading.Event()

    def __call__(self, result, error):
        self._result, self._error = result, error
        self._called.set()

    def result(self):
        if not self._called.wait(CALL_DEADLINE_SECONDS):
            raise TimeoutError("the callback was not called")
        if self._error:
            raise self._error
        return self._result


class Asynchronous(Calls):
    """A client of asyncio, with a loop of its own in a thread of its own."""

    def __init__(self, make):
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._client = self._await(self._made(make))

    @staticmethod
    async def _made(make):
        return make()

    def _await(self, coroutine):
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return future.result(CALL_DEADLINE_SECONDS + 5)

    def _call(self, method, *arguments, **keywords):
        return self._await(getattr(self._client, method)(*arguments, **keywords))

    def infer_all(self, requests):
        async def together():
            return await asyncio.gather(
                *(self._client.infer(model, inputs, **more) for model, inputs, more in requests)
            )

        return self._await(together())

    def close(self):
        self._await(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class AsyncHttp(HttpForm, Asynchronous):
    def __init__(self, address, patience=CALL_DEADLINE_SECONDS):
        super().__init__(
            lambda: tritonclient.http.aio.InferenceServerClient(address, conn_timeout=patience)
        )


class AsyncGrpc(GrpcForm, Asynchronous):
    _as_json: ClassVar = {"as_json": True}

    def __init__(self, address, patience=None):
        super().__init__(lambda: tritonclient.grpc.aio.InferenceServerClient(address))
        self.patience = patience

    def stream(self, requests, **settings):
        async def sent():
            for model, inputs, more in requests:
                yield {"model_name": model, "inputs": inputs, **more}

        async def heard():
            answers = self._client.stream_infer(
                sent(), stream_timeout=CALL_DEADLINE_SECONDS, **settings
            )
            return [answer async for answer in answers]

        return self._await(heard())


CLIENTS = {"http": Http, "grpc": Grpc, "http.aio": AsyncHttp, "grpc.aio": AsyncGrpc}


def datatype_of(array):
    return np_to_triton_dtype(array.dtype)


def relabelled(given, shape, datatype):
    """The same bytes under another shape or datatype, as a client with a defect sends them."""
    given.set_shape(shape)
    if datatype is None:
        return given
    if isinstance(given, tritonclient.grpc.InferInput):
        given._input.datatype = datatype
    else:
        given._datatype = datatype
    return given


# Texts that may look like numbers.
TEXTS = {"name", "version", "id"}


def numbers(value, texts=TEXTS):
    """Protobuf's JSON writes 64-bit numbers as texts; here they are numbers again."""
    if isinstance(value, dict):
        return {key: one if key in texts else numbers(one, texts) for key, one in value.items()}
    if isinstance(value, list):
        return [numbers(one, texts) for one in value]
    if isinstance(value, str) and value.lstrip("-").isdigit():
        return int(value)
    return value
