#!/usr/bin/env python3
"""A strict stand-in for OpenPBS on one machine: qsub, qstat, qselect and qdel. It is not PBS.

What OpenPBS would refuse is refused (`pbs_grammar.py`). Jobs are real processes: in $HOME, with a
clean environment and umask 077, limited to the free cores, killed at their walltime and memory.
As PBS does by default, it forgets jobs that have ended. State is kept in $PBS_SIMULATOR.
"""

from __future__ import annotations

import contextlib
import fcntl
import getopt
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pbs_grammar import Job, RejectError, options, parse

HOME = Path(os.environ.get("PBS_SIMULATOR", "/nonexistent"))
SERVER = "simulator"
CPUS = 4
PAUSE = 0.2
# Exit status of a job killed by signal n, as PBS counts it.
BY_SIGNAL = 256
UNKNOWN_JOB = 153

Entry = dict[str, Any]


@contextlib.contextmanager
def locked() -> Iterator[None]:
    (HOME / "jobs").mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def file_of(key: str) -> Path:
    return HOME / "jobs" / f"{key}.json"


def save(entry: Entry) -> None:
    beside = file_of(entry["key"]).with_suffix(".new")
    beside.write_text(json.dumps(entry))
    beside.replace(file_of(entry["key"]))


def entries() -> list[Entry]:
    found = [json.loads(path.read_text()) for path in (HOME / "jobs").glob("*.json")]
    return sorted(found, key=lambda entry: (entry["number"], entry["index"] or 0))


def identifier(entry: Entry) -> str:
    return f"{entry['key']}.{SERVER}"


def log(what: str, **details: Any) -> None:
    """What PBS has in its accounting files."""
    with (HOME / "accounting.jsonl").open("a") as file:
        file.write(json.dumps({"time": time.time(), "what": what, **details}) + "\n")


def qsub(words: list[str]) -> int:
    _, rest = options(words)
    if len(rest) != 1:
        raise RejectError("usage: qsub [options] script", 2)
    try:
        script = Path(rest[0]).read_text()
    except OSError:
        raise RejectError("qsub: script file:: No such file or directory") from None
    name = re.sub(r"^[^A-Za-z0-9]+", "", Path(rest[0]).name)[:15] or "STDIN"
    job = parse(words, script, name)
    with locked():
        counter = HOME / "number"
        number = int(counter.read_text()) + 1 if counter.exists() else 1
        counter.write_text(str(number))
        (HOME / "jobs" / f"{number}.script").write_text(script)
        base: Entry = {
            "number": number,
            "job": asdict(job),
            "cpus": job.cpus,
            "memory": job.memory,
            "state": "Q",
            "pid": None,
            "folder": str(Path.cwd()),
            "environment": environment(job),
        }
        key = f"{number}[]" if job.array else f"{number}"
        made = [{**base, "key": f"{number}[{i}]", "index": i} for i in job.array]
        made = made or [{**base, "key": key, "index": None}]
        for entry in made:
            save(entry)
        log("submitted", job=key, words=words, resources=job.resources, queue=job.queue)
    for entry in made:
        detached(lambda key=entry["key"]: execute(key))
    sys.stdout.write(f"{key}.{SERVER}\n")
    return 0


def environment(job: Job) -> dict[str, str]:
    user = pwd.getpwuid(os.getuid())
    result = {
        "HOME": user.pw_dir,
        "LOGNAME": user.pw_name,
        "USER": user.pw_name,
        "SHELL": "/bin/bash",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    if job.whole_environment:
        result.update(os.environ)
    for entry in ",".join(job.variables).split(","):
        key, sign, value = entry.partition("=")
        if key:
            result[key] = value.strip("'\"") if sign else os.environ.get(key, "")
    return {
        **result,
        "PBS_ENVIRONMENT": "PBS_BATCH",
        "PBS_JOBNAME": job.name,
        "PBS_QUEUE": job.queue,
        "PBS_O_WORKDIR": str(Path.cwd()),
        "PBS_O_HOME": os.environ.get("HOME", ""),
        "PBS_O_PATH": os.environ.get("PATH", ""),
        "NCPUS": str(job.cpus),
        "OMP_NUM_THREADS": str(job.cpus),
    }


def detached(work: Callable[[], None]) -> None:
    """Do something in a process of its own, which nobody waits for."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    try:
        work()
    finally:
        os._exit(0)


def output_of(entry: Entry) -> Path:
    job = entry["job"]
    index = "" if entry["index"] is None else f".{entry['index']}"
    if not job["output"]:
        return Path(entry["folder"]) / f"{job['name']}.o{entry['number']}{index}"
    text = job["output"].split(":", 1)[-1].replace("^array_index^", str(entry["index"]))
    path = Path(entry["folder"]) / text
    return path / f"{identifier(entry)}.OU" if path.is_dir() else path


def execute(key: str) -> None:
    """Wait for cores and for the jobs before it, run the job, watch its limits."""
    process = None
    while process is None:
        with locked():
            if not file_of(key).exists():
                return
            entry = json.loads(file_of(key).read_text())
            others = entries()
            if waits_in_vain(entry):
                log("ended", job=key, exit=None, why="dependency")
                file_of(key).unlink()
                return
            if may_start(entry, others):
                process = started(entry)
        if process is None:
            time.sleep(PAUSE)
    why = watch(process, entry)
    status = process.wait()
    status = status if status >= 0 else BY_SIGNAL - status
    with locked():
        file_of(key).unlink(missing_ok=True)
        (HOME / "ended").mkdir(exist_ok=True)
        (HOME / "ended" / key).write_text(str(status))
        log("ended", job=key, exit=status, why=why)


def predecessors(entry: Entry) -> list[str]:
    return [text.split(".")[0] for text in entry["job"]["after"]]


def members(key: str) -> list[Path]:
    """Return what the jobs of an identifier left behind; of all, for an array."""
    folder = HOME / "ended"
    if not key.endswith("[]"):
        return [folder / key] if (folder / key).exists() else []
    stem = key[:-1]
    return [path for path in folder.glob("*") if path.name.startswith(stem)]


def waits_in_vain(entry: Entry) -> bool:
    return any(path.read_text() != "0" for key in predecessors(entry) for path in members(key))


def may_start(entry: Entry, others: list[Entry]) -> bool:
    alive = {other["key"] for other in others}
    for key in predecessors(entry):
        stem = key[:-1] if key.endswith("[]") else None
        if key in alive or (stem and any(other.startswith(stem) for other in alive)):
            return False
    running = [other for other in others if other["state"] == "R"]
    limit = entry["job"]["at_once"]
    if limit and sum(other["number"] == entry["number"] for other in running) >= limit:
        return False
    free = CPUS - sum(other["cpus"] for other in running)
    return bool(entry["cpus"] <= free)


def started(entry: Entry) -> subprocess.Popen[bytes]:
    variables = {**entry["environment"], "PBS_JOBID": identifier(entry)}
    if entry["index"] is not None:
        variables["PBS_ARRAY_INDEX"] = str(entry["index"])
        variables["PBS_ARRAY_ID"] = f"{entry['number']}[].{SERVER}"
    os.umask(entry["job"]["umask"])
    with output_of(entry).open("ab") as out:
        process = subprocess.Popen(
            ["/bin/bash", str(HOME / "jobs" / f"{entry['number']}.script")],
            cwd=variables["HOME"],
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    os.umask(0o022)
    entry.update(state="R", pid=process.pid)
    save(entry)
    log("started", job=entry["key"])
    return process


def watch(process: subprocess.Popen[bytes], entry: Entry) -> str | None:
    """Wait for the end; return the limit at which the job was killed."""
    begin = time.monotonic()
    limit = entry["job"]["seconds"]
    while process.poll() is None:
        passed, used = time.monotonic() - begin, memory_of(process.pid)
        why = None
        if limit and passed > limit:
            why = ("walltime", f"{passed:.0f}", limit)
        elif entry["memory"] and used > entry["memory"]:
            why = ("mem", f"{used // 1024}kb", f"{entry['memory'] // 1024}kb")
        if why:
            with output_of(entry).open("a") as out:
                out.write(f"=>> PBS: job killed: {why[0]} {why[1]} exceeded limit {why[2]}\n")
            kill(process.pid)
            return why[0]
        time.sleep(PAUSE)
    return None


def session_of(pid: int) -> list[int]:
    """Return the processes of a session."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == pid and fields[0] != "Z":
                    found.append(int(folder.name))
    return found


def memory_of(pid: int) -> int:
    """Return the bytes that a session has in memory."""
    pages = 0
    for member in session_of(pid):
        with contextlib.suppress(OSError, IndexError):
            pages += int(Path(f"/proc/{member}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def kill(pid: int) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for member in session_of(pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(member, sign)
        end = time.monotonic() + 4
        while session_of(pid) and time.monotonic() < end:
            time.sleep(0.1)


def find(text: str, who: str) -> list[Entry]:
    found = re.fullmatch(r"(\d+)(\[\d*\])?(?:\.\S+)?", text)
    if not found:
        raise RejectError(f"{who}: illegally formed job identifier: {text}")
    key = text.split(".")[0]
    matching = [
        entry
        for entry in entries()
        if entry["key"] == key or (found[2] == "[]" and entry["number"] == int(found[1]))
    ]
    if not matching:
        raise RejectError(f"{who}: Unknown Job Id {text}", UNKNOWN_JOB)
    return matching


def each(words: list[str], who: str, letters: str) -> tuple[dict[str, str], list[Entry], int]:
    """Return options, the jobs that are named (all, if none is), and the exit status."""
    try:
        pairs, names = getopt.getopt(words, letters)
    except getopt.GetoptError as error:
        raise RejectError(f"{who}: {error}", 2) from None
    found: list[Entry] = [] if names else entries()
    status = 0
    for name in names:
        try:
            found += find(name, who)
        except RejectError as error:
            sys.stderr.write(f"{error}\n")
            status = error.status
    return dict(pairs), found, status


def qstat(words: list[str]) -> int:
    with locked():
        given, found, status = each(words, "qstat", "fxtJwu:")
    for entry in found:
        if "-f" in given:
            sys.stdout.write(f"Job Id: {identifier(entry)}\n    job_state = {entry['state']}\n\n")
        else:
            name = entry["job"]["name"][:16]
            sys.stdout.write(f"{identifier(entry):<17} {name:<16} {entry['state']}\n")
    return status


def qselect(words: list[str]) -> int:
    with locked():
        given, found, status = each(words, "qselect", "u:q:s:N:xH")
    if "-N" in given:
        found = [entry for entry in found if entry["job"]["name"] == given["-N"]]
    for entry in found:
        sys.stdout.write(f"{identifier(entry)}\n")
    return status


def qdel(words: list[str]) -> int:
    with locked():
        _, found, status = each(words, "qdel", "xW:")
        if not [word for word in words if not word.startswith("-")]:
            raise RejectError("usage: qdel [-x] job_identifier...", 2)
        for entry in found:
            log("deleted", job=entry["key"])
            if entry["state"] == "Q":
                file_of(entry["key"]).unlink(missing_ok=True)
    for entry in found:
        if entry["pid"]:
            detached(lambda pid=entry["pid"]: kill(pid))
    return status


COMMANDS = {"qsub": qsub, "qstat": qstat, "qselect": qselect, "qdel": qdel}

if __name__ == "__main__":
    try:
        sys.exit(COMMANDS[Path(sys.argv[0]).name](sys.argv[1:]))
    except RejectError as rejected:
        sys.stderr.write(f"{rejected}\n")
        sys.exit(rejected.status)
