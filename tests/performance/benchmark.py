"""Benchmarks of this package beside what a user would take instead; prints Markdown tables.

    python tests/performance/benchmark.py --peer PEER/bin/python --suite2p SUITE2P/bin/python

See README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import logging
import sys
import tempfile
from pathlib import Path

from bench.report import SECTIONS, full_text, readme_blocks
from bench.setup import QUALITIES, Setup, about, own_python
from bench.tables import update_page

log = logging.getLogger(__name__)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    result.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)}; default all")
    result.add_argument("--peer", help="interpreter that has pyflowreg 0.1.0a9 with opencv < 5")
    result.add_argument("--peer-fresh", help="one that has it as pip installs it today")
    result.add_argument("--suite2p", help="one that has suite2p 1.1.0")
    result.add_argument(
        "--backends", help="one with this package and the extras of its backends (default: this)"
    )
    result.add_argument("--work", type=Path, help="keep frames and results here")
    result.add_argument("--out", type=Path, default=Path("benchmarks"), help="results and tables")
    result.add_argument("--add", action="store_true", help="keep the other sections in --out")
    result.add_argument("--reuse", action="store_true", help="stage-1 times of others from --work")
    result.add_argument(
        "--simulation",
        type=json.loads,
        default={},
        metavar="JSON",
        help="other frames, as in '{\"photons\": 2}'; keys of SimulationConfig",
    )
    result.add_argument(
        "--peer-parallel",
        choices=["auto", "sequential", "threading", "multiprocessing"],
        default="auto",
        help="how the published package uses all cores; auto: the fastest",
    )
    result.add_argument("--quality", nargs="+", choices=list(QUALITIES), default=list(QUALITIES))
    for name, text in (
        ("repeats", "rounds in which every tool has its turn"),
        ("frames", "frames of the stage-1 runs"),
        ("peer-frames", "frames of the published package's runs in `quality`"),
        ("accuracy-frames", "frames of the runs that give the errors"),
        ("pairs", "pairs of frames for get_displacement"),
        ("long-frames", "frames of the recording whose memory is measured"),
        ("lasting-frames", "frames of the recording over which nothing may grow"),
        ("checkpoint-frames", "frames of the runs with and without a checkpoint"),
        ("side", "height and width of the frames"),
        ("threads", "cores of the file-to-file runs"),
    ):
        default = getattr(Setup, name.replace("-", "_"))
        result.add_argument(f"--{name}", type=int, default=default, help=text, metavar="N")
    result.add_argument(
        "--readme", type=Path, metavar="PAGE", help="only write the table of --out into PAGE"
    )
    return result


def _setup(arguments: argparse.Namespace, work: Path) -> Setup:
    pythons = {
        "ours": own_python(),
        "backends": arguments.backends or own_python(),
        "peer": arguments.peer,
        "peer_fresh": arguments.peer_fresh,
        "dis": arguments.peer,
        "suite2p": arguments.suite2p,
    }
    sizes = ("repeats", "frames", "peer_frames", "accuracy_frames", "pairs", "long_frames")
    sizes += ("lasting_frames", "checkpoint_frames", "side", "threads")
    return Setup(
        work=work.resolve(),
        pythons={name: python for name, python in pythons.items() if python},
        qualities=arguments.quality,
        reuse=arguments.reuse,
        simulation=arguments.simulation,
        peer_parallel=arguments.peer_parallel,
        **{name: getattr(arguments, name) for name in sizes},
    )


def main() -> int:
    """Measure, print, save."""
    arguments = parser().parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    results_file = arguments.out / "results.json"
    if arguments.readme:
        results = json.loads(results_file.read_text("utf-8"))
        for block, text in readme_blocks(results).items():
            update_page(arguments.readme, block, text)
        return 0
    unknown = set(arguments.sections) - set(SECTIONS)
    if unknown:
        sys.stderr.write(f"unknown: {', '.join(sorted(unknown))}; there are {SECTIONS}\n")
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        setup = _setup(arguments, work)
        setup.work.mkdir(parents=True, exist_ok=True)
        machine = {**about(setup), "simulation": setup.simulation}
        results = {"about": {}, "sections": {}}
        if arguments.add and results_file.is_file():
            results = json.loads(results_file.read_text("utf-8"))
        for name in arguments.sections or SECTIONS:
            section = importlib.import_module(f"bench.section_{name}")
            log.info("%s", section.TITLE)
            results["sections"][name] = section.measure(setup)
            results["about"][name] = machine
            results_file.write_text(json.dumps(results, indent=1), encoding="utf-8")
    text = full_text(results)
    (arguments.out / "tables.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
