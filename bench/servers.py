"""Processes that the benchmarks start, and what they take of the machine."""

import os
import pathlib
import platform
import re
import signal
import socket
import subprocess
import sys

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Process:
    """A process of ours, ended by its own pid."""

    def __init__(self, command, ready=None):
        self.child = subprocess.Popen(
            command, stdout=subprocess.PIPE if ready else None, stderr=subprocess.DEVNULL, text=True
        )
        if ready:
            line = self.child.stdout.readline()
            if ready not in line:
                sys.exit(f"{' '.join(map(str, command))} did not start: {line or 'no output'}")

    def pids(self):
        """The process and its children (nginx serves from children)."""
        children = pathlib.Path(f"/proc/{self.child.pid}/task/{self.child.pid}/children")
        return [self.child.pid, *map(int, children.read_text().split())]

    def stop(self):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait(timeout=30)


def free_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def cpu_seconds(processes):
    ticks = 0
    for pid in (pid for process in processes for pid in process.pids()):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def resident_mib(process):
    status = pathlib.Path(f"/proc/{process.child.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def machine():
    info = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", info)
    load = os.getloadavg()[0]
    return (
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, Linux "
        f"{platform.release()}; load average {load:.1f} at the start"
    )
