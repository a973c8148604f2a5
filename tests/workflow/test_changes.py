"""Each change makes again what depends on it and nothing else, by the command and by Snakemake.

All rows of the table in `changes.py`. `make test-reruns` goes through them with three recordings
each, with real runs of both, and interrupts them.
"""

from __future__ import annotations

import dataclasses
import os
import random
from pathlib import Path
from typing import Any

import pytest

from pyflowreg.core.backend_registry import BACKENDS
from pyflowreg.errors import ConfigError
from pyflowreg.io import InputOptions
from pyflowreg.motion_correction import OFOptions
from pyflowreg.session import SessionConfig

from .changes import CENTRE, CHANGES, NAMES, NOTHING, REFUSED, STAGE1, Change, Redone
from .lab import Finished, Lab, expected_again, redone_by

THOROUGH = "PYFLOWREG_ALL_RERUNS" in os.environ
COMPUTED = {f"flow_options.{key}" for key in OFOptions.model_fields} | {
    key
    for key, field in SessionConfig.model_fields.items()
    if isinstance(field.json_schema_extra, dict)
    and field.json_schema_extra["stages"] in ([1, 2], [2])
}
SOME = ("sigma_smooth", "recording: replaced by an older file")


def shortened(change: Change) -> Change:
    """Fewer recordings are enough for settings of the computation, which all go one way."""
    whole = THOROUGH or change.before or change.act or change.key not in COMPUTED
    if whole or change.redone.first not in (1, 2):
        return change
    names = NAMES[:2] if change.redone.first == 2 else (CENTRE,)
    redone = (getattr(change.redone, part) & {*names} for part in ("stage1", "fields", "videos"))
    stage1, fields, videos = redone
    return dataclasses.replace(
        change,
        before={"pattern": f"rec_[{''.join(name[4:] for name in names)}].tif"},
        redone=Redone(stage1, fields, True, videos),
    )


RUN = [shortened(change) for change in CHANGES if not change.planned_only]
INTERRUPTED = [
    change
    for change in CHANGES
    if change.redone != NOTHING and not change.planned_only and (THOROUGH or change.key in SOME)
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return Finished(tmp_path_factory.mktemp("labs"))


def test_every_setting_is_in_the_table() -> None:
    keys = set(SessionConfig.model_fields) - {"input_options"}
    keys |= {f"flow_options.{key}" for key in OFOptions.model_fields if key not in REFUSED}
    keys |= {f"input_options.{key}" for key in InputOptions.model_fields}
    keys |= {
        f"backend_params.{entry.name}.{param.name}"
        for entry in BACKENDS.values()
        for param in entry.params
    }
    assert keys - {change.key for change in CHANGES} == set(), "missing in changes.py"


def test_the_table_and_the_documentation_agree() -> None:
    """The first stage named where a key is defined is the one it makes run first."""
    for key, field in SessionConfig.model_fields.items():
        rows = [c for c in CHANGES if c.key.split(".")[0] == key and c.redone != NOTHING]
        extra: Any = field.json_schema_extra or {}
        stages = extra.get("stages", [])
        if 0 in stages or not (stages or rows):  # which files there are, or nothing at all
            continue
        if key in ("output_root", "final_results"):  # where they are
            assert not stages
            continue
        assert {row.redone.first for row in rows} == set(stages[:1]), key


@pytest.mark.parametrize("key", REFUSED)
def test_the_others_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        SessionConfig(root="x", flow_options={key: REFUSED[key]})


@pytest.mark.parametrize("change", RUN, ids=str)
def test_a_change(finished: Finished, tmp_path: Path, change: Change) -> None:
    lab = finished(change).copy(tmp_path / "changed")
    lab.apply(change)
    assert redone_by(lab.plan(), change.redone) == change.redone
    before = lab.stamps()
    with lab.watched() as watch:
        lab.command()
    expected = expected_again(change.by_command or change.redone, watch)
    assert watch.redone == expected
    if expected == NOTHING:
        assert lab.stamps() == before
        return
    if THOROUGH or change.key not in COMPUTED:
        assert lab.plan() == {}
    fresh = lab.emptied(tmp_path / "fresh", 1 if THOROUGH else change.redone.first)
    fresh.command()
    assert lab.differences(fresh) == []


class Interrupter:
    """Ends the work of this process, when it has renamed so many files."""

    def __init__(self, patch: pytest.MonkeyPatch, last: int) -> None:
        self.count = 0
        self._last = last
        self._replace = os.replace
        patch.setattr(os, "replace", self)

    def __call__(self, *arguments: Any, **how: Any) -> None:
        self.count += 1
        if self.count == self._last:
            raise KeyboardInterrupt
        self._replace(*arguments, **how)


@pytest.mark.parametrize("onwards", [True, False], ids=["onwards", "back"])
@pytest.mark.parametrize("seed", range(6 if THOROUGH else 1))
@pytest.mark.parametrize("change", INTERRUPTED, ids=str)
def test_an_interrupted_change(
    finished: Finished,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Change,
    seed: int,
    onwards: bool,
) -> None:
    """Wherever it is interrupted, what was begun is finished, or undone, without a trace."""
    base = finished(change)
    lab = base.copy(tmp_path / "changed")
    lab.apply(change)
    fresh = lab.emptied(tmp_path / "fresh")
    with monkeypatch.context() as patch:
        counted = Interrupter(patch, 0)
        fresh.command()
    moments = random.Random(f"{change} {seed} {onwards}")
    for _ in range(2):
        with monkeypatch.context() as patch:
            Interrupter(patch, moments.randint(1, counted.count))
            try:
                lab.command()
            except KeyboardInterrupt:
                continue
    if not onwards:
        lab.undo(base, change)
    lab.command()
    assert lab.differences(fresh if onwards else base) == []
    assert lab.plan() == {}


@pytest.mark.parametrize("change", [c for c in CHANGES if c.planned_only], ids=str)
def test_a_change_of_what_is_not_installed(tmp_path: Path, change: Change) -> None:
    lab = Lab.prepared(tmp_path / "lab", change)
    before = lab.plan_paths()
    lab.apply(change)
    after = lab.plan_paths()
    changed = {name for name in before if before[name] != after[name]}
    assert changed == (set(before) if change.redone == STAGE1 else set())
