"""One cycle: trouble, then an undisturbed run, after which everything has to be right."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .bench import PATIENCE, VARIANTS, Bench
from .processes import DOORS, Order, Run
from .trouble import BETWEEN, DURING, LIMITED

ATTEMPTS = 4
LOCKED = re.compile(r"LockException|Directory cannot be locked")
ADVICE = re.compile(r"(\S+) [^\n]*?(?:Delete it|Remove it)")
FEW_TROUBLES = (0, 1, 1, 1, 2)


@dataclass(frozen=True)
class Round:
    """A disturbed run.

    Parameters
    ----------
    order : Order
        What is run.
    variant : str
        Settings that change results.
    others : dict
        Settings that change none.
    moments : tuple of (float, str)
        Shares of the time of a run at which something happens, and what.
    """

    order: Order
    variant: str
    others: dict[str, float | int]
    moments: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Plan:
    """What happens in a cycle, all chosen beforehand from its seed."""

    seed: str
    before: tuple[tuple[str, ...], ...]
    rounds: tuple[Round, ...]
    last: Round

    @classmethod
    def of(cls, seed: str, doors: tuple[str, ...], variants: list[str], rounds: int) -> Plan:
        """Choose."""
        rng = random.Random(seed)
        chosen = [_round(rng, doors, rng.choice(variants)) for _ in range(rng.randint(1, rounds))]
        before = tuple(
            tuple(rng.choice(list(BETWEEN)) for _ in range(rng.choice(FEW_TROUBLES)))
            for _ in range(len(chosen) + 1)
        )
        last = _round(rng, doors, rng.choice([chosen[-1].variant, rng.choice(variants)]))
        order = Order(last.order.door, last.order.cores)
        return cls(seed, before, tuple(chosen), Round(order, last.variant, last.others, ()))


def _round(rng: random.Random, doors: tuple[str, ...], variant: str) -> Round:
    largest = rng.randint(1000, 400_000) if rng.random() < 0.1 else 0
    others: dict[str, float | int] = {
        "n_workers": rng.randint(1, 3),
        "align_chunk_size": rng.choice((3, 64)),
        "checkpoint_seconds": rng.choice((0, 0.05, 0.05, 0.05, 30)),
    }
    count = rng.choice((1, 1, 2, 3))
    moments = sorted((rng.uniform(0.02, 1.0), rng.choice(list(DURING))) for _ in range(count))
    return Round(Order(rng.choice(doors), rng.randint(1, 3), largest), variant, others, (*moments,))


@dataclass
class Report:
    """What has happened so far.

    Parameters
    ----------
    tried, landed : Counter
        Troubles by kind: all, and those that met something.
    told : Counter
        How often an undisturbed run said that something has to be done first, by what.
    runs : Counter
        Runs by door.
    problems : list of str
        What was not right.
    """

    tried: Counter[str] = field(default_factory=Counter)
    landed: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    cycles: int = 0
    right: int = 0
    compared: int = 0
    problems: list[str] = field(default_factory=list)

    def note(self, kind: str, landed: bool) -> None:
        """Count a trouble."""
        self.tried[kind] += 1
        self.landed[kind] += int(landed)


class Cycle:
    """Carries out a plan.

    Parameters
    ----------
    bench : Bench
        The session.
    plan : Plan
        What happens.
    report : Report
        Gets what happened.
    """

    def __init__(self, bench: Bench, plan: Plan, report: Report) -> None:
        self._bench = bench
        self._plan = plan
        self._report = report
        self._rng = random.Random(f"{plan.seed} chances")
        self.history: list[str] = []
        self.problems: list[str] = []

    def run(self) -> bool:
        """Do it; False if something was not right."""
        for kinds, disturbed in zip(self._plan.before, self._plan.rounds, strict=False):
            self._between(kinds)
            self._disturbed(disturbed)
        self._between(self._plan.before[-1])
        self._bench.put_right()
        if self._finish():
            self._check()
        self._report.cycles += 1
        self._report.right += not self.problems
        self._report.problems += [f"{self._plan.seed}: {text}" for text in self.problems]
        return not self.problems

    def _between(self, kinds: tuple[str, ...]) -> None:
        for kind in kinds:
            landed = BETWEEN[kind](self._bench, self._rng)
            self._report.note(kind, landed)
            self.history.append(f"{kind}{'' if landed else ' (nothing there)'}")

    def _start(self, disturbed: Round) -> Run:
        self._bench.configure(disturbed.variant, **disturbed.others)
        self._report.runs[disturbed.order.door] += 1
        return self._bench.start(disturbed.order)

    def _disturbed(self, disturbed: Round) -> None:
        run = self._start(disturbed)
        self.history.append(f"{disturbed.order} {disturbed.variant} {disturbed.others}")
        if disturbed.order.largest:
            self._report.note(LIMITED, landed=True)
        span = self._bench.seconds[disturbed.order.door]
        begun = time.monotonic()
        for share, kind in disturbed.moments:
            run.wait(max(begun + share * span - time.monotonic(), 0))
            landed = run.lives and DURING[kind](self._bench, run, self._rng)
            self._report.note(kind, landed)
            self.history.append(f"  {share:.2f} {kind}{'' if landed else ' (was over)'}")
        if not run.wait(PATIENCE):
            self.problems.append(f"a run did not end in {PATIENCE:.0f} s: {run.order}")
            run.end()
        self.history.append(f"  status {run.process.returncode}")
        self._judge(run)

    def _judge(self, run: Run) -> None:
        """A run that failed says why, in one message."""
        if run.process.returncode and run.process.returncode > 0 and "Traceback" in run.text:
            self.problems.append(f"{run.order.door} ended with a traceback: {run.log}")

    def _finish(self) -> bool:
        """Run it undisturbed, doing what it says, until it is done."""
        last = self._plan.last
        for attempt in range(ATTEMPTS):
            run = self._start(last)
            self.history.append(f"{last.order} {last.variant}")
            if not run.wait(PATIENCE):
                self.problems.append(f"an undisturbed run did not end: {run.order}")
                run.end()
                return False
            self.history.append(f"  status {run.process.returncode}")
            self._judge(run)
            if run.process.returncode == 0:
                return True
            self._heed(run, attempt)
        self.problems.append(f"{ATTEMPTS} undisturbed runs failed: {run.text[-1500:]}")
        return False

    def _heed(self, run: Run, attempt: int) -> None:
        """Do what the message says."""
        advice = ADVICE.search(run.text)
        if LOCKED.search(run.text):
            self._report.told["unlock"] += 1
            unlock = Order("snakemake", more=("--unlock",))
            self._bench.undisturbed(unlock)
        elif advice is not None and Path(advice[1]).is_file():
            self._report.told["delete a file"] += 1
            Path(advice[1]).unlink()
        else:
            self._report.told["run again"] += 1
        lines = run.text.strip().splitlines()
        self.history.append(f"  said: {lines[-1] if lines else 'nothing'}")

    def _check(self) -> None:
        last, bench = self._plan.last, self._bench
        for run in bench.runs:
            if not run.wait_for_jobs(PATIENCE):
                self.problems.append(f"processes are left of {run.order}: {run.pids}")
                run.end()
            run.process.wait()
        wrong = bench.wrong_files(last.variant, "final/")
        if last.order.door == "snakemake":
            # It leaves alone what is missing in between; the command does not.
            self._expect(Order("command"), "")
        self.problems += wrong + bench.wrong_recordings()
        self.problems += [entry for entry in bench.wrong_files(last.variant) if entry not in wrong]
        self._expect(Order("snakemake", more=("--dry-run",)), "Nothing to be done")
        self._report.compared += len(bench.wanted[last.variant])
        bench.runs.clear()

    def _expect(self, order: Order, text: str) -> None:
        run = self._bench.undisturbed(order)
        if run.process.returncode or text not in run.text:
            self.problems.append(f"{' '.join(order.arguments()[1:])} said: {run.text[-1500:]}")


__all__ = ["DOORS", "VARIANTS", "Cycle", "Plan", "Report"]
