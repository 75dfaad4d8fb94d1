"""Starts `inferring` as a person does, on free ports of the loopback."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time

# Two thousand models with a check of each, on two cores that others use too.
START_DEADLINE_SECONDS = 600
STOP_DEADLINE_SECONDS = 60
LOG_TAIL_CHARACTERS = 4000

READY = re.compile(r" ready on http://([^\s,]+)")


class Inferring:
    """One process of the program, ended with the `with` block that made it."""

    def __init__(self, binary, *arguments, settings=(), log):
        """`settings` are `key=value`, as `--set` takes them; `log` is a file for its output."""
        options = (word for setting in settings for word in ("--set", setting))
        # What is set in the environment for some other inferring must not reach this one.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("INFERRING_")}
        self.log = log
        self._lines = []
        self._heard = threading.Condition()
        self._process = subprocess.Popen(
            [binary, *arguments, "--listen", "127.0.0.1:0", *options],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def __enter__(self):
        started = time.monotonic()
        try:
            self.address = self._await_address()
        except BaseException:
            self.stop()
            raise
        self.start_seconds = time.monotonic() - started
        return self

    def __exit__(self, *_):
        self.stop()

    def _listen(self):
        with open(self.log, "a", buffering=1) as kept:
            for line in self._process.stdout:
                kept.write(line)
                with self._heard:
                    self._lines.append(line)
                    self._heard.notify_all()
        with self._heard:
            self._lines.append(None)
            self._heard.notify_all()

    def _await_address(self):
        """The address that the program says it listens on."""

        def found():
            matches = (READY.search(line) for line in self._lines if line)
            return next(filter(None, matches), None)

        with self._heard:
            self._heard.wait_for(lambda: found() or None in self._lines, START_DEADLINE_SECONDS)
            match = found()
        if not match:
            tail = "".join(filter(None, self._lines))[-LOG_TAIL_CHARACTERS:]
            raise RuntimeError(f"the server did not start: {tail}")
        return match[1]

    def is_running(self):
        return self._process.poll() is None

    def stop(self):
        if self.is_running():
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join()

    def memory_bytes(self):
        """What the process holds in memory now."""
        with open(f"/proc/{self._process.pid}/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))


def ask(address, method, path, body=None):
    """One request of JSON, one answer: the status and what was answered, parsed."""
    with contextlib.closing(http.client.HTTPConnection(address, timeout=120)) as connection:
        connection.request(method, path, None if body is None else json.dumps(body))
        response = connection.getresponse()
        content = response.read()
    return response.status, json.loads(content) if content else None


def index(address):
    """Every model of the repository by name: its state and the reason for it."""
    status, entries = ask(address, "POST", "/v2/repository/index", {})
    if status != 200:
        raise RuntimeError(f"the index was answered with {status}: {entries}")
    return {entry["name"]: (entry["state"], entry.get("reason", "")) for entry in entries}
