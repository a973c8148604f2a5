"""What Snakemake wrote about a job for its executor cluster-generic, and the script around it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyflowreg.cluster.jobbook import JobBook
from pyflowreg.cluster.requests import Request

PROPERTIES = "# properties = "
SIGTERM_STATUS = 143

# Not a trap on EXIT: a bash that dies of SIGTERM runs it with the status of the last command, 0,
# and a job that was cancelled would count as finished.
SCRIPT = """\
#!/bin/bash
# {slot}
finish() {{
  echo "$1" > {exit}.new
  mv {exit}.new {exit}
  exit "$1"
}}
trap 'finish {terminated}' TERM
/bin/bash {jobscript}
finish $?
"""


def read_jobscript(jobscript: Path) -> tuple[dict[str, Any], int]:
    """Return what Snakemake wrote about a job into its script.

    Parameters
    ----------
    jobscript : Path
        Made by Snakemake.

    Returns
    -------
    tuple
        Its properties, and the number of this attempt.

    Raises
    ------
    ValueError
        If it is no jobscript of Snakemake.
    """
    text = jobscript.read_text(encoding="utf-8")
    for line in text.splitlines():
        if line.startswith(PROPERTIES):
            attempt = re.search(r"--attempt '?(\d+)", text)
            return json.loads(line[len(PROPERTIES) :]), int(attempt[1]) if attempt else 1
    raise ValueError(f"{jobscript} has no line that begins with {PROPERTIES!r}")


def request_of(properties: Mapping[str, Any], scheduler: str, name: str, log: Path) -> Request:
    """Return what a job asks for.

    Parameters
    ----------
    properties : mapping
        Of the jobscript.
    scheduler : str
        Resources that begin with its name are those of the site: ``sge_queue`` and the like.
    name : str
        Of the job, in the scheduler.
    log : Path
        Gets what the job writes.

    Returns
    -------
    Request
    """
    resources: Mapping[str, Any] = properties.get("resources") or {}
    prefix = f"{scheduler}_"
    site = {key[len(prefix) :]: str(v) for key, v in resources.items() if key.startswith(prefix)}
    return Request(
        name=name,
        log=log,
        threads=max(1, int(properties.get("threads") or 1)),
        mem_mb=_whole(resources.get("mem_mb")),
        minutes=_whole(resources.get("runtime")),
        gpus=_whole(resources.get("gpu")),
        disk_mb=_whole(resources.get("disk_mb")),
        site=site,
    )


def _whole(value: Any) -> int:
    try:
        return max(0, int(float(value)))
    except (TypeError, ValueError):
        return 0


def write_script(book: JobBook, slot: str, token: str, jobscript: Path) -> Path:
    """Write a script that runs another one and leaves its exit status.

    Parameters
    ----------
    book : JobBook
        Of the session.
    slot : str
        See `slot_of`.
    token : str
        Name of the file that gets the exit status.
    jobscript : Path
        Made by Snakemake.

    Returns
    -------
    Path
        For the scheduler.
    """
    script = book.file("scripts", f"{token}.sh")
    text = SCRIPT.format(
        slot=" ".join(slot.split()),
        exit=shlex.quote(str(book.exit_file(token))),
        jobscript=shlex.quote(str(jobscript.absolute())),
        terminated=SIGTERM_STATUS,
    )
    script.write_text(text, encoding="utf-8")
    return script
