"""One tool in a process of its own: obeys requests, one JSON object a line, and answers likewise.

    PYTHON worker.py TOOL [--cpu N]

TOOL is the name of a module beside this file whose public functions may be called. A request is
``{"call": "name", "arguments": {...}}``; the answer has the keys `value`, `seconds`, `cpu_seconds`
and `peak_bytes`, or only `error`. Runs in environments that lack this project, so it needs nothing
but the standard library.
"""

import argparse
import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path


def cpu_seconds():
    """CPU time of this process and of the children it has waited for."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in usage)


def forget_peak():
    """Let the high-water mark of the memory start anew, where the system allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_bytes():
    """High-water mark of the resident memory.

    Not `ru_maxrss`: after fork and exec it starts with the size of the parent.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def answer(tool, request):
    """Call a function of the tool and measure the call."""
    function = getattr(tool, request["call"])
    forget_peak()
    cpu, start = cpu_seconds(), time.perf_counter()
    value = function(**request.get("arguments", {}))
    seconds = time.perf_counter() - start
    return {
        "value": value,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds() - cpu,
        "peak_bytes": peak_bytes(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool")
    parser.add_argument("--cpu", type=int, help="the only core that may be used")
    arguments = parser.parse_args()
    if arguments.cpu is not None:
        os.sched_setaffinity(0, {arguments.cpu})
    # what a tool prints goes to the log; only answers go to the pipe
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as pipe:
        os.dup2(2, 1)
        tool = importlib.import_module(arguments.tool)
        for line in sys.stdin:
            pipe.write(json.dumps(answer(tool, json.loads(line))) + "\n")
            pipe.flush()


if __name__ == "__main__":
    main()
