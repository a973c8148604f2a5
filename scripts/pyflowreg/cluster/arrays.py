"""`pyflowreg-session submit`: a session as plain jobs of a scheduler, without Snakemake."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pyflowreg.cluster import pbs, sge, slurm
from pyflowreg.cluster.commands import ask
from pyflowreg.cluster.requests import Request
from pyflowreg.errors import ConfigError, PyflowregError

if TYPE_CHECKING:
    from pyflowreg.session.config import SessionConfig

logger = logging.getLogger(__name__)

SCHEDULERS: dict[str, ModuleType] = {module.NAME: module for module in (slurm, sge, pbs)}
DEFAULT_FOLDER = Path("cluster_jobs")
STAGE1, STAGES23 = "stage1.sh", "stages2and3.sh"

DESCRIPTION = """\
Write two job scripts and submit them: stage 1 as an array with one job per recording, then one job
for stages 2 and 3, which waits for it. Memory and time come from the headers of the recordings.
Recordings that are finished are left as they are, so the same command continues what was
interrupted, and so does Snakemake.
"""


def add_parser(commands: Any) -> argparse.ArgumentParser:
    """Add the command `submit` to the command line.

    Parameters
    ----------
    commands : argparse._SubParsersAction
        Where commands are added.

    Returns
    -------
    argparse.ArgumentParser
        Of the command; settings and their changes are for the caller to add.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        "submit",
        help="submit a session to SLURM, Grid Engine or PBS",
        description=DESCRIPTION,
        allow_abbrev=False,
    )
    parser.add_argument("--scheduler", required=True, choices=sorted(SCHEDULERS))
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="write the scripts and tell the commands, submit nothing",
    )
    parser.add_argument(
        "--site",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="what is particular to the cluster; "
        + "; ".join(f"{name}: {', '.join(m.SITE_KEYS)}" for name, m in SCHEDULERS.items()),
    )
    parser.add_argument(
        "--threads", type=_positive, help="cores of one job (default: n_workers, or else 8)"
    )
    parser.add_argument(
        "--at-once", type=_positive, default=0, help="recordings at a time (default: no limit)"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=DEFAULT_FOLDER,
        help=f"for scripts and logs (default: {DEFAULT_FOLDER})",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def site_of(scheduler: str, entries: Sequence[str]) -> dict[str, str]:
    """Parse what is particular to a cluster.

    Parameters
    ----------
    scheduler : str
        "slurm", "sge" or "pbs".
    entries : sequence of str
        ``key=value``.

    Returns
    -------
    dict
        Values by key.

    Raises
    ------
    ConfigError
        With every entry that is of another form, or unknown to this scheduler.
    """
    known = SCHEDULERS[scheduler].SITE_KEYS
    result, problems = {}, []
    for entry in entries:
        key, sign, value = entry.partition("=")
        if not sign or key not in known:
            problems.append(
                f"--site: {entry!r} is not KEY=VALUE with a key of {scheduler}: {', '.join(known)}."
            )
        result[key] = value
    if problems:
        raise ConfigError(problems)
    return result


def submit(config: SessionConfig, arguments: argparse.Namespace) -> list[str]:
    """Write the scripts of a session and submit them.

    Parameters
    ----------
    config : SessionConfig
        The session.
    arguments : argparse.Namespace
        What the parser of `add_parser` returns, with `config` and `of_params`.

    Returns
    -------
    list of str
        What was done, for the user.

    Raises
    ------
    PyflowregError
        If settings or recordings cannot be used, or the scheduler refuses a job.
    """
    module = SCHEDULERS[arguments.scheduler]
    folder = arguments.folder.absolute()
    first, second = requests_of(config, arguments, folder)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    scripts = folder / STAGE1, folder / STAGES23
    run = _command_line(arguments)
    alone = first.array if module is pbs and first.array == 1 else 0
    lines = [f"export {module.TASK}=1"] if alone else []
    _write(scripts[0], module, first, [*lines, f"exec {run} --stage 1 --array"])
    _write(scripts[1], module, second, [f"{run} --stage 2", f"{run} --stage 3"])
    said = [f"stage 1: {scripts[0]}, {first.array} recordings", f"stages 2 and 3: {scripts[1]}"]
    if arguments.dry_run:
        after = shlex.join(module.dependency(second, "IDENTIFIER"))
        said.append(f"would run: {module.SUBMIT} {shlex.quote(str(scripts[0]))}")
        said.append(f"would run: {module.SUBMIT} {after} {shlex.quote(str(scripts[1]))}")
        return said
    job = _submit(module, [str(scripts[0])])
    then = _submit(module, [*module.dependency(second, job), str(scripts[1])])
    return [f"{said[0]}: job {job}", f"{said[1]}: job {then}, when job {job} has ended"]


def requests_of(
    config: SessionConfig, arguments: argparse.Namespace, folder: Path
) -> tuple[Request, Request]:
    """Return what the two jobs ask for; all recordings of the array get what the largest needs.

    Parameters
    ----------
    config : SessionConfig
        The session.
    arguments : argparse.Namespace
        See `submit`.
    folder : Path
        For scripts and logs.

    Returns
    -------
    tuple of Request
        Stage 1, and stages 2 and 3.
    """
    from pyflowreg.core.backend_registry import host_needs
    from pyflowreg.session.preflight import preflight
    from pyflowreg.workflow import resources
    from pyflowreg.workflow.backend_jobs import gpus_of
    from pyflowreg.workflow.plan import DEFAULT_CLUSTER_THREADS

    module = SCHEDULERS[arguments.scheduler]
    infos = [dict(info) for info in preflight(config, here=False).infos]
    chosen = config.n_workers if config.n_workers > 0 else DEFAULT_CLUSTER_THREADS
    threads = arguments.threads or chosen
    site = site_of(arguments.scheduler, arguments.site)
    chunk = config.align_chunk_size
    needs = host_needs(config.flow_backend, config.backend_params)
    session = resources.session_job(infos, threads, precision=config.precision, needs=needs)
    options = config.options_for()
    binning = options.bin_size, options.buffer_size
    first = Request(
        name="session_stage1",
        log=folder / "logs" / f"stage1.{module.ARRAY_LOG}.log",
        threads=threads,
        mem_mb=max(
            resources.stage1_mem_mb(info, threads, precision=config.precision, needs=needs)
            for info in infos
        ),
        minutes=max(resources.stage1_runtime(info, threads, needs=needs) for info in infos),
        gpus=gpus_of(config),
        disk_mb=max(resources.stage1_disk_mb(info, options.save_w, *binning) for info in infos),
        site=site,
        array=len(infos),
        at_once=arguments.at_once,
    )
    second = Request(
        name="session_stage23",
        log=folder / "logs" / "stages2and3.log",
        threads=threads,
        mem_mb=max(
            session.mem_mb,
            *(
                resources.align_mem_mb(info, chunk, libraries_mb=needs.libraries_mb)
                for info in infos
            ),
        ),
        minutes=session.runtime + sum(resources.align_runtime(info) for info in infos),
        gpus=gpus_of(config),
        site=site,
    )
    return first, second


def _command_line(arguments: argparse.Namespace) -> str:
    words = [sys.executable, "-m", "pyflowreg.session.cli", "run"]
    words += ["--config", str(arguments.config.absolute())]
    changes = ["--of-params", *arguments.of_params] if arguments.of_params else []
    return shlex.join([*words, *changes])


def _write(path: Path, module: ModuleType, request: Request, commands: Sequence[str]) -> None:
    """Write a job script."""
    from pyflowreg.io.atomic import atomic_write_text

    if module is pbs and request.array == 1:  # PBS has no arrays of one
        log = Path(str(request.log).replace(module.ARRAY_LOG, "1"))
        request = Request(**{**vars(request), "array": 0, "log": log})
    package = Path(__file__).resolve().parents[2]
    lines = [
        "#!/bin/bash",
        "# Written by `pyflowreg-session submit`.",
        *(f"{module.DIRECTIVE} {shlex.join(option)}" for option in module.options(request)),
        "set -e",
        f"cd {shlex.quote(os.getcwd())}",  # noqa: PTH109 - as the shell knows it
        f'export PYTHONPATH={shlex.quote(str(package))}"${{PYTHONPATH:+:$PYTHONPATH}}"',
        *commands,
    ]
    atomic_write_text(path, "\n".join(lines) + "\n")


def _submit(module: ModuleType, words: Sequence[str]) -> str:
    answer = ask([module.SUBMIT, *module.submit_flags(), *words], patience=300)
    identifier: str | None = module.job_id(answer.text) if answer.status == 0 else None
    if identifier is None:
        said = f"{answer.errors}{answer.text}".strip()
        raise PyflowregError(
            f"{module.SUBMIT} did not take {words[-1]}: {said}. Change what the scheduler names "
            "with --site, or edit the script and submit it yourself."
        )
    return identifier
