"""Each change makes again what depends on it and nothing else, by the command and by Snakemake.

All rows of the table in `changes.py`; `make test-reruns` goes through them with real runs of both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyflowreg.errors import ConfigError
from pyflowreg.io import InputOptions
from pyflowreg.motion_correction import OFOptions
from pyflowreg.session import SessionConfig

from .changes import CHANGES, NOTHING, REFUSED, Change, Redone
from .lab import Lab, redone_by

RUN = [change for change in CHANGES if not change.planned_only]


@pytest.fixture(scope="module")
def finished_labs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Lab]:
    """Finished sessions, by what is special about them."""
    return {}


@pytest.fixture
def done(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, finished_labs: dict[str, Lab]
) -> Any:
    """Make a function that returns a session with all stages done before a change."""

    def make(change: Change) -> Lab:
        key = f"{change.before} {change.prepare}"
        if key not in finished_labs:
            lab = Lab.prepared(tmp_path_factory.mktemp("lab") / "done", change)
            if not change.planned_only:
                lab.command()
            finished_labs[key] = lab
        return finished_labs[key].copy(tmp_path / "changed")

    return make


def test_every_setting_is_in_the_table() -> None:
    keys = set(SessionConfig.model_fields) - {"input_options"}
    keys |= {f"flow_options.{key}" for key in OFOptions.model_fields if key not in REFUSED}
    keys |= {f"input_options.{key}" for key in InputOptions.model_fields}
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
        assert {row.first for row in rows} == set(stages[:1]), key


@pytest.mark.parametrize("key", REFUSED)
def test_the_others_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        SessionConfig(root="x", flow_options={key: REFUSED[key]})


def by_command(
    change: Change, redone: Redone, same_averages: frozenset[str], centre: str
) -> Redone:
    """What the command has to make again: a field whose averages came out the same may be kept."""
    expected = change.by_command or change.redone
    kept = expected.fields - redone.fields
    if not kept <= same_averages or (kept and centre not in same_averages):
        kept = frozenset()
    return Redone(expected.stage1, expected.fields - kept, expected.mask, expected.videos)


@pytest.mark.parametrize("change", RUN, ids=str)
def test_a_change(done: Any, tmp_path: Path, change: Change) -> None:
    lab = done(change)
    assert lab.plan() == {}
    lab.apply(change)
    assert redone_by(lab.plan(), change.redone) == change.redone
    before = lab.stamps()
    with lab.watched() as watch:
        lab.command()
    expected = by_command(change, watch.redone, watch.same_averages, lab.centre)
    assert watch.redone == expected
    assert lab.plan() == {}
    if expected == NOTHING:
        assert lab.stamps() == before
        return
    fresh = lab.emptied(tmp_path / "fresh")
    fresh.command()
    whole, made = fresh.contents(), lab.contents()
    assert sorted(made) == sorted(whole)
    assert [name for name in whole if made[name] != whole[name]] == []


@pytest.mark.parametrize("change", [c for c in CHANGES if c.planned_only], ids=str)
def test_a_change_of_what_is_not_installed(done: Any, change: Change) -> None:
    lab = done(change)
    before = lab.plan_paths()
    lab.apply(change)
    after = lab.plan_paths()
    assert {name for name in before if before[name] != after[name]} == set(before)
