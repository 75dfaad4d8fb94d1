"""Which servers and clients a run has, and what a failed test shows of its server."""

import pytest
from suite.servers import SERVERS

CLIENTS = ("http", "grpc", "http.aio", "grpc.aio")
OURS = ("worker", "gateway", "serve")
LOG_TAIL_CHARACTERS = 3000


def pytest_addoption(parser):
    parser.addoption(
        "--server",
        action="append",
        choices=tuple(SERVERS),
        help="a server to test, repeatable; by default the three ways to run inferring",
    )


def pytest_generate_tests(metafunc):
    if "server" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("server") or OURS
        metafunc.parametrize("server", chosen, indirect=True, scope="session")


@pytest.fixture(scope="session")
def server(request, tmp_path_factory):
    """A running server, with all models of suite/models.py."""
    folder = tmp_path_factory.mktemp(request.param)
    repository = folder / "models"
    repository.mkdir()
    running = SERVERS[request.param](repository, folder / "log").start()
    yield running
    running.stop()


@pytest.fixture(params=CLIENTS)
def client(server, request):
    """Each of the four clients."""
    return server.client(request.param)


@pytest.fixture(params=("http", "http.aio"))
def http_client(server, request):
    return server.client(request.param)


@pytest.fixture(params=("grpc", "grpc.aio"))
def grpc_client(server, request):
    return server.client(request.param)


@pytest.fixture
def report(server, request):
    """Takes lines to be printed at the end of the run."""
    kind = request.node.callspec.params["server"]
    return lambda line: REPORT.append(f"{kind:12} {line}")


REPORT = []


def pytest_terminal_summary(terminalreporter):
    if REPORT:
        terminalreporter.section("what the clients saw")
        for line in REPORT:
            terminalreporter.line(line)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    running = getattr(item, "funcargs", {}).get("server")
    if report.failed and running:
        report.sections.append(("server", running.log.read_text()[-LOG_TAIL_CHARACTERS:]))
