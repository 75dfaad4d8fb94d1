"""The servers under test, each started as a person starts it, on free ports of the loopback.

Three ways to run `inferring`, which must look the same from outside, and the real Triton server,
which tells whether the tests ask the right questions.
"""

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import models

# Two dozen models on each of three workers, on two busy cores.
START_DEADLINE_SECONDS = 120
STOP_DEADLINE_SECONDS = 30
WORKERS = 3


class Server:
    """A server that takes requests: one address for each protocol, and a repository on disk."""

    is_triton = False
    backend = models.INFERRING

    def __init__(self, repository: Path, log: Path):
        self.repository = repository
        self.log = log
        self.http = None
        self.grpc = None
        self._processes = contextlib.ExitStack()
        self._clients = {}

    def start(self):
        for model in models.MODELS:
            if not (self.is_triton and model.inferring_only):
                self.add(model)
        try:
            self.launch()
            self.await_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def launch(self):
        raise NotImplementedError

    def add(self, model):
        """Lays a model into the repository; it is not loaded by that."""
        model.write(self.repository, self.backend)

    def client(self, kind):
        """The client of this kind, made once."""
        # Not in every environment that starts servers there are Triton's clients.
        from .clients import CLIENTS

        if kind not in self._clients:
            made = CLIENTS[kind]
            self._clients[kind] = made(self.http if made.protocol == "http" else self.grpc)
        return self._clients[kind]

    def run(self, *command, **environment):
        """Starts a process of this server; it is ended with the others, last first."""
        process = Process(command, environment, self.log)
        self._processes.callback(process.stop)
        return process

    def await_ready(self):
        deadline = time.monotonic() + START_DEADLINE_SECONDS
        while not self.is_ready():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the server is not ready: {self.log.read_text()[-4000:]}")
            time.sleep(0.05)

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://{self.http}/v2/health/ready", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self):
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._processes.close()


class Inferring(Server):
    """What the three ways have in common: the program, and both protocols on one port."""

    def inferring(self, *arguments):
        """Starts the program and returns the address that it says it listens on."""
        process = self.run(os.environ["INFERRING"], *arguments, "--listen", "127.0.0.1:0")
        return process.await_line(re.compile(r" ready on http://(\S+?),?\s"))


class OneWorker(Inferring):
    def launch(self):
        self.http = self.grpc = self.inferring("worker", str(self.repository))


class Gateway(Inferring):
    def launch(self):
        workers = [
            self.inferring("worker", str(self.repository), "--id", f"worker_{number}")
            for number in range(1, WORKERS + 1)
        ]
        places = [f"worker_{number}={place}" for number, place in enumerate(workers, 1)]
        self.http = self.grpc = self.inferring("gateway", *places)


class Serve(Inferring):
    def launch(self):
        self.http = self.grpc = self.inferring(
            "serve", str(self.repository), "--workers", str(WORKERS)
        )


class Triton(Server):
    """The server of NVIDIA, out of the wheel that scripts/compatibility fetches."""

    is_triton = True
    backend = models.TRITON

    def launch(self):
        home = Path(os.environ["TRITONSERVER"])
        binaries = home / "site" / "pytriton" / "tritonserver"
        ports = free_ports(3)
        self.http, self.grpc, _metrics = (f"127.0.0.1:{port}" for port in ports)
        options = {
            "model-repository": self.repository,
            "backend-directory": binaries / "backends",
            "cache-directory": binaries / "caches",
            "cache-config": "local,size=1048576",
            "model-control-mode": "explicit",
            "load-model": "*",
            "allow-gpu-metrics": "false",
        }
        for name, port in zip(("http", "grpc", "metrics"), ports, strict=True):
            options |= {f"{name}-address": "127.0.0.1", f"{name}-port": port}
        self.run(
            str(binaries / "bin" / "tritonserver"),
            *(f"--{name}={value}" for name, value in options.items()),
            LD_LIBRARY_PATH=str(home / "site" / "nvidia_pytriton.libs"),
            # The interpreter inside the server finds numpy by the `python3` on its path.
            PATH=f"{home / 'python' / 'bin'}:{os.environ['PATH']}",
        )


SERVERS = {"worker": OneWorker, "gateway": Gateway, "serve": Serve, "tritonserver": Triton}


class Process:
    """One process, its output kept in a file and watched for what it says."""

    def __init__(self, command, environment, log):
        # The program's settings in the environment of whoever runs the tests are not meant.
        inherited = {n: value for n, value in os.environ.items() if not n.startswith("INFERRING_")}
        self._lines = []
        self._heard = threading.Condition()
        self._process = subprocess.Popen(
            command,
            env=inherited | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._keep, args=(log,), daemon=True)
        self._reader.start()

    def _keep(self, log):
        with open(log, "a", buffering=1) as kept:
            for line in self._process.stdout:
                kept.write(line)
                with self._heard:
                    self._lines.append(line)
                    self._heard.notify_all()
        with self._heard:
            self._lines.append(None)
            self._heard.notify_all()

    def await_line(self, pattern):
        """Waits for a line that matches, and returns its first group."""

        def found():
            for line in self._lines:
                match = line and pattern.search(line)
                if match:
                    return match
            return None

        with self._heard:
            self._heard.wait_for(
                lambda: found() or None in self._lines, timeout=START_DEADLINE_SECONDS
            )
            match = found()
        if not match:
            raise RuntimeError(f"the server did not start: {''.join(filter(None, self._lines))}")
        return match[1]

    def stop(self):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join()


def free_ports(count):
    """Ports that were free a moment ago, for a server that cannot be told to take any."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
