"""What goes wrong: to a run while it runs, and to the files between two runs."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .processes import Order, Run, send

if TYPE_CHECKING:
    from .bench import Bench

Trouble = Callable[["Bench", Run, random.Random], bool]
"""Does something to a run; returns whether it was there to be hit."""


def _signal(how: int, whom: str) -> Trouble:
    def hit(bench: Bench, run: Run, rng: random.Random) -> bool:
        everyone = {"all": run.pids, "first": [run.process.pid], "job": run.jobs}[whom]
        if not run.lives or not everyone:
            return False
        send([rng.choice(everyone)] if whom == "job" else everyone, how)
        run.was_hit = True
        return True

    return hit


def _stop(bench: Bench, run: Run, rng: random.Random) -> bool:
    """Let it sleep for a while, as a laptop does."""
    pids = run.pids
    send(pids, signal.SIGSTOP)
    time.sleep(rng.uniform(0.1, 1.5))
    send(pids, signal.SIGCONT)
    return bool(pids)


def _second(bench: Bench, run: Run, rng: random.Random) -> bool:
    """Start the session once more; it is told, or both are right."""
    bench.start(Order(rng.choice(("command", "snakemake")), rng.randint(1, 3)))
    return run.lives


def _second_while_stopped(bench: Bench, run: Run, rng: random.Random) -> bool:
    pids = run.pids
    send(pids, signal.SIGSTOP)
    bench.start(Order(rng.choice(("command", "snakemake"))))
    time.sleep(rng.uniform(0.5, 3))
    send(pids, signal.SIGCONT)
    return bool(pids)


def _full_disk(bench: Bench, run: Run, rng: random.Random) -> bool:
    """Fill the disk for a while."""
    if not bench.disk.size:
        return False
    bench.disk.fill(rng.choice((0, rng.randint(0, 400_000))))
    time.sleep(rng.uniform(0.2, 3))
    bench.disk.free()
    run.was_hit = True
    return True


def _vanish(bench: Bench, run: Run, rng: random.Random) -> bool:
    """Take a recording away for a while, as a network disk does."""
    path = rng.choice(bench.recordings)
    away = bench.folder / "away.tif"
    path.rename(away)
    time.sleep(rng.uniform(0.1, 2))
    away.rename(path)
    run.was_hit = True
    return run.lives


def _unreadable(bench: Bench, run: Run, rng: random.Random) -> bool:
    path = rng.choice(bench.recordings)
    path.chmod(0)
    time.sleep(rng.uniform(0.1, 2))
    path.chmod(0o644)
    run.was_hit = True
    return run.lives and os.geteuid() != 0  # nothing keeps root from reading


def _touch(bench: Bench, run: Run, rng: random.Random) -> bool:
    rng.choice(bench.recordings).touch()
    run.was_hit = True
    return run.lives


DURING: dict[str, Trouble] = {
    "SIGKILL all": _signal(signal.SIGKILL, "all"),
    "SIGKILL first": _signal(signal.SIGKILL, "first"),
    "SIGKILL job": _signal(signal.SIGKILL, "job"),
    "SIGTERM all": _signal(signal.SIGTERM, "all"),
    "SIGTERM first": _signal(signal.SIGTERM, "first"),
    "SIGTERM job": _signal(signal.SIGTERM, "job"),
    "SIGINT all": _signal(signal.SIGINT, "all"),
    "SIGINT first": _signal(signal.SIGINT, "first"),
    "SIGSTOP, SIGCONT": _stop,
    "second run": _second,
    "second run of a stopped one": _second_while_stopped,
    "full disk": _full_disk,
    "recording vanished": _vanish,
    "recording unreadable": _unreadable,
    "recording touched": _touch,
}
LIMITED = "files limited"
"""Not among them because it begins with the run."""


# Between two runs ---------------------------------------------------------------------------------


def _some_result(bench: Bench, rng: random.Random) -> Path | None:
    files = sorted(path for path in bench.files() if not path.name.startswith("."))
    return rng.choice(files) if files else None


def _truncate(bench: Bench, rng: random.Random) -> bool:
    path = _some_result(bench, rng)
    if path is None:
        return False
    size = path.stat().st_size
    os.truncate(path, rng.choice((0, rng.randrange(max(size, 1)))))
    return size > 0


def _garble(bench: Bench, rng: random.Random) -> bool:
    """Overwrite the whole file, and not with as many bytes: bits that flip nobody looks for."""
    path = _some_result(bench, rng)
    if path is None:
        return False
    path.write_bytes(rng.randbytes(max(path.stat().st_size + rng.choice((-1, 1, 10, 1000)), 1)))
    return True


def _remove(bench: Bench, rng: random.Random) -> bool:
    path = _some_result(bench, rng)
    if path is None:
        return False
    _unlink(path)
    return True


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)
    if path.parent.parent.name == "records":
        # Without a record a video is nobody's, and stays beside the one in another format.
        name = f"aligned_{path.stem.rpartition('_')[0]}.{path.parent.name}"
        (path.parents[2] / name).unlink(missing_ok=True)


def _remove_many(bench: Bench, rng: random.Random) -> bool:
    files = sorted(bench.files())
    for path in rng.sample(files, rng.randint(0, len(files))):
        _unlink(path)
    return bool(files)


def _exchange(bench: Bench, rng: random.Random) -> bool:
    """Put a file of one recording into the folder of another."""
    name = rng.choice(("idx.hdf", "compensated.hdf5", "temporal_average.npy", "w_to_reference.npz"))
    found = sorted(bench.output_root.glob(f"*/{name}"))
    if len(found) < 2:
        return False
    source, target = rng.sample(found, 2)
    target.write_bytes(source.read_bytes())
    return True


def _damage_checkpoint(bench: Bench, rng: random.Random) -> bool:
    files = sorted(path for path in bench.files() if ".checkpoint" in path.parts)
    if not files:
        return False
    path = rng.choice(files)
    size = path.stat().st_size
    if rng.random() < 0.5:
        os.truncate(path, rng.randrange(max(size, 1)))
    else:
        path.write_bytes(rng.randbytes(size))
    return True


def _touch_between(bench: Bench, rng: random.Random) -> bool:
    rng.choice(bench.recordings).touch()
    return True


def _other_recording(bench: Bench, rng: random.Random) -> bool:
    """Put another recording in the place of one, of any age, until the session is checked."""
    first, second = rng.sample(bench.recordings, 2)
    bench.exchange(first, second, rng.choice((None, 1e9)))
    return True


BETWEEN: dict[str, Callable[[Bench, random.Random], bool]] = {
    "result truncated": _truncate,
    "result garbled": _garble,
    "result removed": _remove,
    "many results removed": _remove_many,
    "results exchanged": _exchange,
    "checkpoint damaged": _damage_checkpoint,
    "recording touched between": _touch_between,
    "recording replaced": _other_recording,
}
