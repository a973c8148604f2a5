"""What OpenPBS accepts on qsub's command line and in #PBS lines, after its manual pages.

qsub(1B), pbs_resources(7B). What is not known there is refused, in the words of PBS where known.
"""

from __future__ import annotations

import getopt
import re
import shlex
from dataclasses import dataclass, field

# The string that qsub gives to getopt().
QSUB_OPTIONS = "a:A:c:C:e:fGhIj:J:k:l:m:M:N:o:p:P:q:r:R:S:u:v:VW:Xz"
CHUNK = {
    "ncpus": "whole",
    "mem": "size",
    "vmem": "size",
    "mpiprocs": "whole",
    "ompthreads": "whole",
    "ngpus": "whole",
    "naccelerators": "whole",
    "host": "text",
    "vnode": "text",
    "arch": "text",
}
JOB_WIDE = {
    "walltime": "time",
    "min_walltime": "time",
    "max_walltime": "time",
    "cput": "time",
    "pcput": "time",
    "file": "size",
    "pmem": "size",
    "pvmem": "size",
    "nice": "whole",
    "software": "text",
    "select": "select",
    "place": "place",
    "nodes": "text",
    **CHUNK,
}
ATTRIBUTES = {
    "depend",
    "group_list",
    "block",
    "sandbox",
    "stagein",
    "stageout",
    "umask",
    "run_count",
    "release_nodes_on_stageout",
    "tolerate_node_failures",
    "pwd",
}
DEPENDENCIES = {"after", "afterok", "afternotok", "afterany", "before", "on"}
PLACE = r"(free|pack|scatter|vscatter|excl|shared|exclhost|group=\w+)"
UNITS = {"": 1, "b": 1, "w": 8}
QUEUES: dict[str, int | None] = {"workq": None, "short": 3600, "long": None}


class RejectError(Exception):
    """PBS would not take this; the message and exit status are PBS's."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Job:
    """What was asked for."""

    name: str
    queue: str = "workq"
    resources: dict[str, str] = field(default_factory=dict)
    chunks: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    seconds: int | None = None
    output: str = ""
    errors: str = ""
    join: str = "n"
    umask: int = 0o077
    array: list[int] = field(default_factory=list)
    at_once: int = 0
    after: list[str] = field(default_factory=list)
    whole_environment: bool = False
    variables: list[str] = field(default_factory=list)
    account: str = ""

    @property
    def cpus(self) -> int:
        if self.chunks:
            return sum(n * int(chunk.get("ncpus", 1)) for n, chunk in self.chunks)
        return int(self.resources.get("ncpus", 1))

    @property
    def memory(self) -> int:
        """Bytes; 0: none asked for."""
        if self.chunks:
            return sum(n * size(chunk.get("mem", "0")) for n, chunk in self.chunks)
        return size(self.resources.get("mem", "0"))


def size(text: str) -> int:
    """Bytes of a size such as 400mb."""
    found = re.fullmatch(r"(\d+)([kmgtp]?)([bw]?)", text.lower())
    if not found:
        raise RejectError(f"qsub: Illegal attribute or resource value: {text}")
    factor = 1024 ** (" kmgtp".index(found[2]) if found[2] else 0)
    return int(found[1]) * factor * UNITS[found[3]]


def seconds(text: str) -> int:
    """Seconds of a time: [[hours:]minutes:]seconds."""
    found = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+)(?:\.\d+)?", text)
    if not found:
        raise RejectError("qsub: Illegal attribute or resource value Resource_List.walltime")
    hours, minutes, rest = (int(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + rest


def check(kind: str, name: str, value: str) -> None:
    """Refuse a value that is not of the kind of its resource."""
    if kind == "time":
        seconds(value)
    elif kind == "size":
        size(value)
    elif kind == "select":
        select(value)
    elif kind == "place":
        if not re.fullmatch(rf"{PLACE}(:{PLACE})*", value):
            raise RejectError("qsub: Illegal attribute or resource value Resource_List.place")
    elif not re.fullmatch(r"\d+" if kind == "whole" else r"\S+", value):
        raise RejectError(f"qsub: Illegal attribute or resource value Resource_List.{name}")


def select(text: str) -> list[tuple[int, dict[str, str]]]:
    """Return the chunks of ``-l select=``: how many, and what each has."""
    chunks = []
    for part in text.split("+"):
        fields = part.split(":")
        count = int(fields.pop(0)) if re.fullmatch(r"\d+", fields[0]) else 1
        chunk: dict[str, str] = {}
        for entry in fields:
            key, sign, value = entry.partition("=")
            if not sign or not value:
                raise RejectError("qsub: Illegal attribute or resource value Resource_List.select")
            if key not in CHUNK:
                why = " (it belongs to the job, not to a chunk)" if key in JOB_WIDE else ""
                raise RejectError(f"qsub: Unknown resource: {key}{why}")
            if key in chunk:
                raise RejectError(f"qsub: Duplicated resource in select: {key}")
            check(CHUNK[key], key, value)
            chunk[key] = value
        chunks.append((count, chunk))
    return chunks


def resources(lists: list[str]) -> dict[str, str]:
    """Return what all ``-l`` ask for together."""
    result: dict[str, str] = {}
    for entry in ",".join(lists).split(",") if lists else []:
        key, sign, value = entry.partition("=")
        if not key or not sign or not value:
            raise RejectError("qsub: illegal -l value")
        if key not in JOB_WIDE:
            raise RejectError(f"qsub: Unknown resource: {key}")
        check(JOB_WIDE[key], key, value)
        result[key] = value
    if {"select", "place"} & set(result):
        for key in result:
            if key in CHUNK or key == "nodes":
                raise RejectError(
                    'qsub: "-lresource=" cannot be used with "select" or "place", '
                    f"resource is: {key}"
                )
    return result


def directives(text: str) -> list[str]:
    """Return the options in the #PBS lines at the beginning of a script."""
    words: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#PBS"):
            words += shlex.split(stripped[4:])
        elif stripped and not stripped.startswith(("#", ":")):
            break
    return words


def options(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    """Return options by letter, and what follows them."""
    try:
        pairs, rest = getopt.getopt(words, QSUB_OPTIONS)
    except getopt.GetoptError as error:
        raise RejectError(f"qsub: {error}\nusage: qsub [-a date_time] ... [script]", 2) from None
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        found.setdefault(key[1], []).append(value)
    return found, rest


def parse(words: list[str], script: str, default_name: str) -> Job:
    """Return the job that a command line and a script ask for; the former wins."""
    given, _ = options(words)
    written, stray = options(directives(script))
    if stray:
        raise RejectError(f"qsub: directive error: {' '.join(stray)}")
    lists = {**resources(written.pop("l", [])), **resources(given.pop("l", []))}
    asked = resources([",".join(f"{key}={value}" for key, value in lists.items())] if lists else [])
    merged = {**written, **given}
    last = {key: values[-1] for key, values in merged.items()}
    job = Job(
        name=_matching(r"[A-Za-z0-9][!-~]{0,229}", last.get("N", default_name), "-N"),
        resources=asked,
        chunks=select(asked["select"]) if "select" in asked else [],
        seconds=seconds(asked["walltime"]) if "walltime" in asked else None,
        output=last.get("o", ""),
        errors=last.get("e", ""),
        join=_matching(r"oe|eo|n", last.get("j", "n"), "-j"),
        whole_environment="V" in merged,
        variables=merged.get("v", []),
        account=last.get("A", ""),
    )
    _matching(r"[nscuw]|[cw]=[1-9]\d*", last.get("c", "u"), "-c")
    _matching(r"[+-]?\d+", last.get("p", "0"), "-p")
    _matching(r"y|n", last.get("r", "y"), "-r")
    _matching(r"n|[abej]+", last.get("m", "a"), "-m")
    _matching(r"[^/\[\]\";:|<>+,?*]*", last.get("P", ""), "-P")
    _attributes(job, merged.get("W", []))
    _queue(job, last.get("q", "workq"))
    if "J" in last:
        _array(job, last["J"])
        if last.get("r") == "n":
            raise RejectError("qsub: cannot submit non-rerunable Array Job")
    return job


def _matching(pattern: str, value: str, option: str) -> str:
    if not re.fullmatch(pattern, value):
        raise RejectError(f"qsub: illegal {option} value")
    return value


def _attributes(job: Job, lists: list[str]) -> None:
    for text in lists:
        for entry in text.split(","):
            key, sign, value = entry.partition("=")
            if key not in ATTRIBUTES:
                raise RejectError(f"qsub: Undefined attribute  {key}")
            if not sign or not value:
                raise RejectError("qsub: illegal -W value")
            if key == "umask":
                job.umask = int(_matching(r"[0-7]{1,4}", value, "-W"), 8)
            if key == "depend":
                kind, *ids = value.split(":")
                if kind not in DEPENDENCIES or not ids:
                    raise RejectError("qsub: illegal -W value")
                job.after += ids if kind == "afterok" else []


def _queue(job: Job, text: str) -> None:
    job.queue = text.split("@")[0]
    if job.queue not in QUEUES:
        raise RejectError("qsub: Unknown queue", 170)
    limit = QUEUES[job.queue]
    if limit is not None and job.seconds is not None and job.seconds > limit:
        raise RejectError("qsub: Job violates queue and/or server resource limits", 188)


def _array(job: Job, text: str) -> None:
    found = re.fullmatch(r"(\d+)-(\d+)(?::(\d+))?(?:%(\d+))?", text)
    if not found or int(found[1]) >= int(found[2]) or found[3] == "0":
        raise RejectError("qsub: illegal -J value")
    job.array = list(range(int(found[1]), int(found[2]) + 1, int(found[3] or 1)))
    job.at_once = int(found[4] or 0)
