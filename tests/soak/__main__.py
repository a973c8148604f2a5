"""Run a session again and again under everything that can go wrong, and check it.

PYTHONPATH=tests python -m soak --minutes 20
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from .bench import VARIANTS, Bench
from .cycle import Cycle, Plan, Report
from .disk import small_disk
from .processes import DOORS, REPOSITORY

MEBIBYTE = 2**20
DISK = 24 * MEBIBYTE


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    result.add_argument("--minutes", type=float, default=20, help="how long (default: 20)")
    result.add_argument("--cycles", type=int, help="how many at most")
    result.add_argument("--seed", type=int, help="repeats the choices of an earlier run")
    result.add_argument("--first", type=int, default=0, help="number of the first cycle")
    result.add_argument("--doors", nargs="+", choices=DOORS, default=list(DOORS))
    result.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    result.add_argument("--iterations", type=int, default=1500, help="of the flow")
    result.add_argument("--rounds", type=int, default=3, help="disturbed runs of a cycle, at most")
    result.add_argument("--work", type=Path, help="keep everything here")
    return result


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def table(report: Report) -> str:
    """Return how often what happened."""
    width = max(map(len, report.tried), default=0)
    lines = [
        f"  {kind:{width}}  {report.tried[kind]:4} tried  {report.landed[kind]:4} landed"
        for kind in sorted(report.tried)
    ]
    total = f"{sum(report.tried.values())} troubles, {sum(report.landed.values())} landed"
    return "\n".join([*lines, f"  {total}"])


def summary(report: Report, seed: int, minutes: float) -> str:
    """Return the end of the story."""
    told = ", ".join(f"{what} {count}" for what, count in report.told.items()) or "never"
    runs = ", ".join(f"{door} {count}" for door, count in report.runs.items())
    lines = [
        f"seed {seed}, {minutes:.1f} minutes",
        table(report),
        f"runs: {runs}",
        f"undisturbed runs that asked for something first: {told}",
        f"cycles: {report.cycles}, survived: {report.right}",
        f"files compared: {report.compared}, all identical: {not report.problems}",
    ]
    return "\n".join(lines + [f"PROBLEM {text}" for text in report.problems])


def soak(arguments: argparse.Namespace, bench: Bench, seed: int) -> Report:
    """Do it, until the time is over."""
    report = Report()
    doors = tuple(arguments.doors)
    for number, variant in enumerate(arguments.variants):
        bench.learn(variant, doors[number % len(doors)])
    bench.learn(arguments.variants[0], doors[-1])
    end = time.monotonic() + 60 * arguments.minutes
    number = arguments.first
    while time.monotonic() < end and (arguments.cycles is None or number < arguments.cycles):
        plan = Plan.of(f"{seed}/{number}", doors, arguments.variants, arguments.rounds)
        cycle = Cycle(bench, plan, report)
        right = cycle.run()
        say(f"cycle {number}: {'right' if right else 'WRONG'}")
        if not right:
            for line in (*cycle.history, *cycle.problems):
                say(f"    {line}")
            for run in bench.runs:
                run.end()
            bench.runs.clear()
            bench.forget()
        number += 1
    return report


def main() -> int:
    """Soak, and tell."""
    arguments = parser().parse_args()
    seed = random.SystemRandom().randrange(10**6) if arguments.seed is None else arguments.seed
    say(f"seed {seed}")
    os.environ["PYTHONPATH"] = str(REPOSITORY / "scripts")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the disk is taken away
    folder = arguments.work or Path(tempfile.mkdtemp(prefix="soak"))
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    try:
        with small_disk(folder / "disk", DISK) as disk:
            bench = Bench(folder, disk, arguments.iterations)
            bench.make()
            try:
                report = soak(arguments, bench, seed)
            finally:
                for run in bench.runs:
                    run.end()
    finally:
        if arguments.work is None:
            shutil.rmtree(folder, ignore_errors=True)
    say(summary(report, seed, (time.monotonic() - begun) / 60))
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
