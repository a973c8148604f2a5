"""Coverage-guided fuzzing of everything that reads files: `make fuzz SECONDS=1200`.

Each target runs in a process of its own under atheris, which keeps the files that reach new lines
in the corpus and saves the ones that crash, hang or flood the memory; so the next run goes on from
where this one was. Without atheris (it has no build for every Python) files are mutated blindly.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .child import TESTS, Child
from .mutations import mutated, random_mutations
from .seeds import seeds
from .targets import TARGETS

MEGABYTES = 2048
SECONDS_PER_CASE = 20
SLOW, MUCH = 10.0, 500.0


@dataclass
class Report:
    """What came of a target."""

    executions: int = 0
    covered: int = 0
    findings: list[str] = field(default_factory=list)


def _corpus(folder: Path, target: str) -> Path:
    corpus = folder / "corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    for content in seeds(target):
        (corpus / hashlib.sha1(content).hexdigest()).write_bytes(content)
    return corpus


def guided(target: str, seconds: float, folder: Path) -> Report:
    """Run atheris on a target until the time is over; a finding does not end it."""
    report, corpus = Report(), _corpus(folder, target)
    found = folder / "found" / target
    found.mkdir(parents=True, exist_ok=True)
    scripts = TESTS.parent / "scripts"
    path = os.pathsep.join([str(TESTS), str(scripts), os.environ.get("PYTHONPATH", "")])
    end = time.monotonic() + seconds
    while (left := int(end - time.monotonic())) > 2:
        options = [
            f"-max_total_time={left}", f"-timeout={SECONDS_PER_CASE}", f"-rss_limit_mb={MEGABYTES}",
            f"-artifact_prefix={found}/", "-max_len=65536", "-print_final_stats=1", "-verbosity=1",
        ]  # fmt: skip
        before = {entry.name for entry in found.iterdir()}
        done = subprocess.run(
            [sys.executable, "-m", "fuzz.guided", target, *options, str(corpus)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        numbers = re.findall(r"stat::number_of_executed_units: (\d+)", done.stdout)
        steps = re.findall(r"^#(\d+)", done.stdout, re.MULTILINE)
        report.executions += max(map(int, numbers + steps), default=0)
        report.covered = max(
            [report.covered, *map(int, re.findall(r"ft: (\d+)", done.stdout))], default=0
        )
        new = sorted({entry.name for entry in found.iterdir()} - before)
        report.findings += [f"{found / name}" for name in new]
        if done.returncode and not new:
            raise SystemExit(f"{target}: atheris ended by itself:\n{done.stdout[-4000:]}")
    return report


def blind(target: str, seconds: float, folder: Path) -> Report:
    """Mutate valid files until the time is over."""
    report, source = Report(), random.Random(os.urandom(8))
    files, suffix = seeds(target), TARGETS[target].suffix
    found = folder / "found" / target
    found.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + seconds
    with Child(SECONDS_PER_CASE) as child:
        while time.monotonic() < end:
            changes = random_mutations(source)
            content = mutated(source.choice(files), source.choice(files), changes)
            answer = child.read(target, content, suffix)
            report.executions += 1
            if answer.is_fine and answer.seconds < SLOW and answer.megabytes < MUCH:
                continue
            path = found / f"{hashlib.sha1(content).hexdigest()}{suffix}"
            path.write_bytes(content)
            report.findings.append(f"{path}: {answer.outcome[-300:]}")
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz the targets one after the other and print a table."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1200.0, help="for all targets together")
    parser.add_argument("--folder", type=Path, default=Path("fuzz_results"))
    parser.add_argument("--blind", action="store_true", help="without atheris")
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], default=[])
    chosen = parser.parse_args(arguments)
    has_atheris = importlib.util.find_spec("atheris") is not None
    if not has_atheris and not chosen.blind:
        sys.stderr.write("atheris is not installed (pip install atheris); mutating blindly.\n")
    run = guided if has_atheris and not chosen.blind else blind
    names = chosen.targets or list(TARGETS)
    folder = chosen.folder.absolute()
    reports = {}
    sys.stdout.write(f"{'target':<16} {'executions':>10} {'features':>9} {'findings':>9}\n")
    for name in names:
        reports[name] = report = run(name, chosen.seconds / len(names), folder)
        sys.stdout.write(
            f"{name:<16} {report.executions:>10} {report.covered:>9} {len(report.findings):>9}\n"
        )
        sys.stdout.flush()
    findings = [text for report in reports.values() for text in report.findings]
    total = sum(report.executions for report in reports.values())
    sys.stdout.write(f"{'all':<16} {total:>10} {'':>9} {len(findings):>9}\n")
    sys.stdout.write("".join(f"{text}\n" for text in findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
