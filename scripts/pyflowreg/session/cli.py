"""The command `pyflowreg-session`."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyflowreg import __version__
from pyflowreg.cluster.arrays import add_parser as add_submit_parser
from pyflowreg.cluster.arrays import submit
from pyflowreg.core.compilation.log import compile_log
from pyflowreg.errors import ConfigError, PyflowregError
from pyflowreg.stopping import INTERRUPTED, stop_on_sigterm
from pyflowreg.workflow.guard import check_own_package

if TYPE_CHECKING:
    from pyflowreg.session.config import SessionConfig

logger = logging.getLogger(__name__)

USER_ERROR = 2

EPILOG = """\
settings
  A .toml, .yml or .yaml file with the keys of config/README.md in the repository; only root is
  required:

      root = "/data/experiment"
      pattern = "*.tif"
      center = "recording_03.tif"

      [flow_options]
      quality_setting = "balanced"

array jobs
  With --stage 1 --array a job does one recording: the one whose place in the natural order of the
  names, counted from 1, is in SLURM_ARRAY_TASK_ID, SGE_TASK_ID, PBS_ARRAY_INDEX or PBS_ARRAYID.
  Stages 2 and 3 follow, each as one job, when all of them have finished. `submit` writes such
  jobs for SLURM, Grid Engine and PBS, and submits them.

exit status
  0 done, 1 an unexpected error (with traceback), 2 settings or input that cannot be used,
  130 interrupted, 143 told to stop by SIGTERM; after both, the same command continues.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Returns
    -------
    argparse.ArgumentParser
        With the commands `run`, `submit`, `compile` and `backends`.
    """
    parser = argparse.ArgumentParser(
        prog="pyflowreg-session",
        description="Motion correct the recordings of a session and align them to one of them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    run = commands.add_parser(
        "run",
        help="run all stages, or one",
        description="Run stage 1 (motion correction), 2 (displacements between recordings) and "
        "3 (masks and aligned recordings), or one of them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    run.add_argument("--stage", type=int, choices=(1, 2, 3), help="only this stage (default: all)")
    run.add_argument(
        "--array", action="store_true", help="stage 1 of one recording, chosen by the array job"
    )
    submit_command = add_submit_parser(commands)
    for command in (run, submit_command):
        _add_settings(command)
    compile_ahead = commands.add_parser(
        "compile",
        help="compile for this machine now, instead of in the first run",
        description="Compile everything that runs of this installation need. The first run does "
        "the same by itself, in about a minute; before a hundred jobs start at once, do it here, "
        "on a machine with the same kind of processor.",
        allow_abbrev=False,
    )
    commands.add_parser(
        "backends",
        help="list the implementations of the optical flow, and what is missing of them",
        description="List what flow_backend can be: whether it can be used on this machine, on "
        "which of its devices, and if not, why, and how to install it. On a cluster, run it in a "
        "job on a machine with a GPU.",
        allow_abbrev=False,
    )
    for command in (run, submit_command, compile_ahead):
        command.add_argument("-v", "--verbose", action="store_true", help="log details, with times")
    return parser


def _add_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--config", required=True, type=Path, metavar="FILE", help="settings (.toml, .yml, .yaml)"
    )
    command.add_argument(
        "--of-params",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="change flow_options, for example quality_setting=fast sigma=[1,1,0.1]",
    )


def parse_of_params(entries: Sequence[str]) -> dict[str, Any]:
    """Parse ``key=value`` entries.

    Parameters
    ----------
    entries : sequence of str
        Values are written as in YAML: ``alpha=2``, ``sigma=[1,1,0.1]``, ``save_w=true``.

    Returns
    -------
    dict
        Keys and parsed values; the keys are not checked.

    Raises
    ------
    ConfigError
        If an entry has another form, or a key is given twice.
    """
    import yaml

    from pyflowreg.session.config_files import parse_yaml

    result: dict[str, Any] = {}
    problems = []
    for entry in entries:
        key, sign, text = entry.partition("=")
        key = key.strip()
        if not sign or not key:
            problems.append(
                f"--of-params: {entry!r} is not KEY=VALUE, for example quality_setting=fast."
            )
            continue
        if key in result:
            problems.append(f"--of-params: {key} is given twice.")
        try:
            result[key] = parse_yaml(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            problems.append(f"--of-params: the value of {entry!r} is not valid YAML.")
    if problems:
        raise ConfigError(problems)
    return result


def load_config(path: Path, of_params: Sequence[str] = ()) -> SessionConfig:
    """Read the settings and change `flow_options` as the command line says.

    Parameters
    ----------
    path : Path
        Settings file.
    of_params : sequence of str
        ``key=value`` entries.

    Returns
    -------
    SessionConfig
        Validated.

    Raises
    ------
    ConfigError
        If the file, a setting or an entry of `of_params` cannot be used; with every problem found.
    """
    from pyflowreg.session.config import SessionConfig

    changes = parse_of_params(of_params)
    config = SessionConfig.from_file(path)
    if changes:
        config.flow_options = {**config.flow_options, **changes}
    return config


def run(arguments: argparse.Namespace) -> None:
    """Run what the command line asks for; the result goes to standard output.

    Parameters
    ----------
    arguments : argparse.Namespace
        What the parser of `build_parser` returns for the command `run`.

    Raises
    ------
    ConfigError
        If the settings cannot be used, or an array is asked for with another stage than 1.
    PyflowregError
        If a stage cannot be run.
    """
    from pyflowreg.session.locks import session_lock

    config = load_config(arguments.config, arguments.of_params)
    array = arguments.array or (config.scheduler == "array" and arguments.stage in (None, 1))
    if array and arguments.stage != 1:
        asked = "--array" if arguments.array else "scheduler: array"
        raise ConfigError(
            [
                f"{asked}: only stage 1 can be split into array jobs. Run `--stage 1 --array` in "
                "the array, then --stage 2 and --stage 3, each as one job."
            ]
        )
    if array:
        _stage1_array(config)
        return
    _settle_times(config)
    stages = {1: _stage1, 2: _stage2, 3: _stage3}
    with session_lock(config, alone=True):
        for stage in (arguments.stage,) if arguments.stage else (1, 2, 3):
            logger.info("Stage %d", stage)
            stages[stage](config)


def compile_kernels() -> None:
    """Compile all kernels; where they are kept goes to standard output.

    Raises
    ------
    PyflowregError
        If the small files this needs cannot be written.
    """
    from pyflowreg.core.jit import kernel_store
    from pyflowreg.session import precompile

    precompile.compile_kernels()
    compile_log.report()
    folder = kernel_store.writable
    if folder is None:
        raise PyflowregError(
            "Compiled kernels cannot be kept: set NUMBA_CACHE_DIR to a folder that can be written."
        )
    _say(f"compiled: {compile_log.kernels} kernels; all are kept in {folder}")


def _list_backends() -> None:
    from pyflowreg.core.backend_registry import table

    for line in table():
        _say(line)


def _say(text: str) -> None:
    """Write a line of the result."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _settle_times(config: SessionConfig) -> None:
    from pyflowreg.session.discovery import discover_recordings
    from pyflowreg.session.outputs import session_paths
    from pyflowreg.session.times import results_in, settle

    try:
        names = [recording.name for recording in discover_recordings(config)]
    except ConfigError:
        return  # which the stage reports, with all other problems
    settle(results_in(session_paths(config), names))


def _stage1_array(config: SessionConfig) -> None:
    from pyflowreg.session.stage1_compensate import run_stage1_array

    _say(f"stage 1: {run_stage1_array(config)}")


def _stage1(config: SessionConfig) -> None:
    from pyflowreg.session.stage1_compensate import run_stage1

    for folder in run_stage1(config):
        _say(f"stage 1: {folder}")


def _stage2(config: SessionConfig) -> None:
    from pyflowreg.session.stage2_between_avgs import save_fields

    recordings, centre = save_fields(config)
    center_file = recordings[centre].path
    _say(f"stage 2: {len(recordings)} recordings aligned to number {centre + 1}, {center_file}")


def _stage3(config: SessionConfig) -> None:
    from pyflowreg.session.outputs import session_paths
    from pyflowreg.session.stage3_valid_mask import run_stage3

    mask = run_stage3(config)
    share = 100 * float(mask.mean())
    _say(f"stage 3: {share:.1f} % of the pixels are valid in all recordings")
    _say(f"stage 3: {session_paths(config).final_npz}")


def _configure_logging(verbose: bool) -> None:
    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s" if verbose else "%(message)s",
        force=True,
    )
    if verbose:
        # The compiler's own account of its work is thousands of lines.
        for name in ("numba", "h5py", "matplotlib", "PIL"):
            logging.getLogger(name).setLevel(logging.WARNING)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        Exit status.
    """
    arguments = build_parser().parse_args(argv)
    _configure_logging(getattr(arguments, "verbose", False))
    previous = stop_on_sigterm()
    try:
        check_own_package()
        if arguments.command == "compile":
            compile_kernels()
        elif arguments.command == "backends":
            _list_backends()
        elif arguments.command == "submit":
            for line in submit(load_config(arguments.config, arguments.of_params), arguments):
                _say(line)
        else:
            run(arguments)
    except PyflowregError as error:
        sys.stderr.write(f"pyflowreg-session: {error}\n")
        return USER_ERROR
    except KeyboardInterrupt:
        sys.stderr.write("pyflowreg-session: interrupted; run it again to continue.\n")
        return INTERRUPTED
    finally:
        compile_log.report()
        signal.signal(signal.SIGTERM, previous)
    return 0


if __name__ == "__main__":
    sys.exit(main())
