"""A small session in a folder, the command and Snakemake's plan in this process; what is redone."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pyflowreg.session import cli
from pyflowreg.workflow.plan import Plan

from .changes import BASE, NOTHING, Change, Redone, forget, make_recordings, merged

REPOSITORY = Path(__file__).resolve().parents[2]
PROFILE = REPOSITORY / "profiles" / "default" / "profile.v9+.yaml"
REVISION = "NUMERICS_REVISION"

Stamp = tuple[int, int]


@dataclass
class Lab:
    """A folder with a session; `settings.yaml` are its settings.

    Parameters
    ----------
    folder : Path
        Relative paths start here.
    settings : dict
        What is in the settings file.
    revision : int
        What is added to the revision of the numerics.
    """

    folder: Path
    settings: dict[str, Any] = field(default_factory=lambda: dict(BASE))
    revision: int = 0

    @classmethod
    def prepared(cls, folder: Path, change: Change) -> Lab:
        """Make a session as it is before a change, with nothing done."""
        lab = cls(folder, merged(BASE, change.before))
        make_recordings(lab.root)
        if change.prepare is not None:
            change.prepare(lab)
        lab.save()
        return lab

    @property
    def root(self) -> Path:
        return self.folder / self.settings["root"]

    def save(self) -> None:
        """Write the settings file."""
        (self.folder / "settings.yaml").write_text(yaml.safe_dump(self.settings))

    def apply(self, change: Change) -> None:
        """Change the session."""
        if change.act is not None:
            change.act(self)
        self.settings = merged(self.settings, change.settings)
        self.save()

    def copy(self, folder: Path) -> Lab:
        """Copy everything, with all times."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Lab(folder, dict(self.settings), self.revision)

    def emptied(self, folder: Path, stage: int = 1) -> Lab:
        """Copy the session without results of a stage and those after it."""
        lab = self.copy(folder)
        if stage == 1:
            forget(lab.root)
        shutil.rmtree(lab.final_results, ignore_errors=True)
        for path in [path for path in lab.files() if stage == 2 and is_of_stage_2(path)]:
            path.unlink()
        return lab

    def command(self) -> None:
        """Run all stages, as `pyflowreg-session run` does."""
        with self._inside():
            for stage in ("1", "2", "3") if self.settings.get("scheduler") == "array" else ("",):
                self._command(stage)

    def _command(self, stage: str) -> None:
        arguments = ["run", "--config", "settings.yaml", *(["--stage", stage] if stage else [])]
        numbers = range(len(list(self.root.glob("rec_*")))) if stage == "1" else [None]
        for number in numbers:
            array = [] if number is None else ["--array"]
            os.environ["SLURM_ARRAY_TASK_ID"] = str(0 if number is None else number + 1)
            with contextlib.redirect_stdout(io.StringIO()):
                cli.run(cli.build_parser().parse_args([*arguments, *array]))

    def plan(self) -> dict[str, set[str]]:
        """Jobs that Snakemake would run: rules, and names of recordings or ""."""
        with self._inside():
            return planned_jobs()

    def plan_paths(self) -> dict[str, Path]:
        """Records of the current settings, by what they are of."""
        with self._inside():
            plan = Plan.from_mapping(self.settings)
            name = plan.center.name
            return {
                "stage 1": plan.stage1_record_of(name),
                "stage 2": plan.stage2_record_of(name),
                "mask": plan.mask_record_file,
                "video": plan.video_record_of(name),
            }

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """Be in the folder, with the revision of the session."""
        named = [module for name, module in sys.modules.items() if name.startswith("pyflowreg")]
        modules = [module for module in named if hasattr(module, REVISION)]
        before = os.environ.get("SLURM_ARRAY_TASK_ID")
        for module in modules:
            setattr(module, REVISION, getattr(module, REVISION) + self.revision)
        try:
            with contextlib.chdir(self.folder):
                yield
        finally:
            for module in modules:
                setattr(module, REVISION, getattr(module, REVISION) - self.revision)
            os.environ.pop("SLURM_ARRAY_TASK_ID", None)
            if before is not None:
                os.environ["SLURM_ARRAY_TASK_ID"] = before

    @property
    def output_root(self) -> Path:
        return self.root / self.settings.get("output_root", "compensated_outputs")

    @property
    def final_results(self) -> Path:
        return self.root / self.settings.get("final_results", "final_results")

    def files(self) -> list[Path]:
        """Every file of the results, also those that should not be there."""
        folders = (self.output_root, self.final_results)
        return [path for top in folders for path in sorted(top.rglob("*")) if not path.is_dir()]

    @property
    def names(self) -> list[str]:
        """Names of the recordings, in natural order."""
        found = self.root.glob(self.settings["pattern"])
        return sorted((path.stem for path in found), key=lambda name: int(name.split("_")[1]))

    @property
    def centre(self) -> str:
        """Name of the centre."""
        center = self.settings.get("center")
        return Path(center).stem if center else self.names[len(self.names) // 2]

    def contents(self) -> dict[str, bytes]:
        """Content of every result by its name.

        What recordings have left that are not in the session any more does not count, nor do
        videos in the other format, and the path of a recording in its header.
        """
        ending = ".hdf5" if self.settings.get("align_output_format") == "HDF5" else ".tif"
        result = {}
        for path in self.files():
            name = str(path.relative_to(self.root))
            own = re.search(r"rec_[0-9]+", name)
            video = re.search(r"aligned_rec|/records/", name)
            if own is not None and own[0] not in self.names:
                continue
            if video is not None and ending not in name and f"/{ending[1:]}/" not in name:
                continue
            content = path.read_bytes()
            if path.name == "inspect.json":
                content = re.sub(rb'"path": .*', b"", content)
            result[name] = content
        return result

    def differences(self, other: Lab) -> list[str]:
        """Results that are not the same, or not there, in the other session."""
        own, others = self.contents(), other.contents()
        return sorted(
            name for name in {*own, *others} if own.get(name, name) != others.get(name, name)
        )

    def undo(self, base: Lab, change: Change) -> None:
        """Bring settings and recordings back to what they were before a change."""
        if self.root != self.folder / base.root.relative_to(base.folder):
            with contextlib.suppress(FileNotFoundError):
                self.root.rename(self.folder / base.root.relative_to(base.folder))
        self.settings, self.revision = dict(base.settings), base.revision
        results = {self.output_root.name, self.final_results.name, "elsewhere"}
        for top, source in ((self.root, base.root), (self.folder, base.folder)):
            keep = {*results, base.root.name}
            for path in [path for path in top.iterdir() if path.name not in keep]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            for path in [path for path in source.iterdir() if path.name not in keep]:
                copy = shutil.copytree if path.is_dir() else shutil.copy2
                copy(path, top / path.name)

    def stamps(self) -> dict[Path, Stamp]:
        """Inode and time of every result."""
        found = {path: path.stat() for path in self.files()}
        return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found.items()}

    def averages(self) -> dict[str, bytes]:
        """Temporal averages of the recordings by their name."""
        found = self.output_root.glob("*/temporal_average.npy")
        return {path.parent.name: path.read_bytes() for path in found}

    @contextlib.contextmanager
    def watched(self) -> Iterator[Watch]:
        """Tell what is made again in the meantime."""
        kept = self.folder / "kept"  # so that no number of a file is given away again
        kept.mkdir()
        for number, path in enumerate(self.files()):
            (kept / str(number)).hardlink_to(path)
        watch = Watch(self, {path: path.stat().st_ino for path in self.files()}, self.averages())
        yield watch
        watch.finish()
        shutil.rmtree(kept)


@dataclass
class Watch:
    """What was made again: files whose number changed."""

    lab: Lab
    before: dict[Path, int]
    averages: dict[str, bytes]
    redone: Redone = NOTHING
    same_averages: frozenset[str] = frozenset()

    def finish(self) -> None:
        lab = self.lab
        new = {
            path.relative_to(lab.root)
            for path in lab.files()
            if self.before.get(path) != path.stat().st_ino
        }
        final = lab.final_results.relative_to(lab.root)
        videos = {path.stem for path in new if path.parent == final}
        self.redone = Redone(
            frozenset(path.parent.name for path in new if path.name == "compensated.hdf5"),
            frozenset(path.parent.name for path in new if path.name == "w_to_reference.npz"),
            final / "final_valid_idx.npz" in new,
            frozenset(
                name.removeprefix("aligned_") for name in videos if name.startswith("aligned_")
            ),
        )
        after = lab.averages()
        same = (name for name in after if after[name] == self.averages.get(name))
        self.same_averages = frozenset(same)


def is_of_stage_2(path: Path) -> bool:
    """Whether stage 2 makes a file."""
    return path.name.startswith(("w_to_reference", "stage2_"))


class Finished:
    """Sessions with all stages done, each made once.

    Parameters
    ----------
    folder : Path
        Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._labs: dict[str, Lab] = {}

    def __call__(self, change: Change) -> Lab:
        """Return a session as it is before a change."""
        key = f"{change.before} {change.prepare}"
        if key not in self._labs:
            lab = Lab.prepared(self._folder / str(len(self._labs)), change)
            lab.command()
            assert lab.plan() == {}
            self._labs[key] = lab
        return self._labs[key]


def expected_again(redone: Redone, watch: Watch) -> Redone:
    """What has to be made again: a field whose averages came out the same may be kept."""
    kept = redone.fields - watch.redone.fields
    if not {*kept, watch.lab.centre} <= watch.same_averages:
        return redone
    return replace(redone, fields=watch.redone.fields)


def planned_jobs() -> dict[str, set[str]]:
    """Let Snakemake plan the session of the current folder, in this process.

    Returns
    -------
    dict
        Names of recordings of the jobs of each rule, "" for a job of all.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.settings import types

    triggers = yaml.safe_load(PROFILE.read_text())["rerun-triggers"]
    output = types.OutputSettings(dryrun=True, quiet={types.Quietness.ALL})
    logging.getLogger("snakemake").handlers.clear()
    with SnakemakeApi(output) as api:
        workflow = api.workflow(
            resource_settings=types.ResourceSettings(cores=2),
            config_settings=types.ConfigSettings(configfiles=[Path("settings.yaml")]),
            snakefile=REPOSITORY / "Snakefile",
        )
        settings = types.DAGSettings(
            rerun_triggers={types.RerunTrigger.parse_choice(entry) for entry in triggers},
            force_incomplete=True,
        )
        workflow.dag(dag_settings=settings).execute_workflow(executor="dryrun")
        jobs: dict[str, set[str]] = {}
        for job in workflow._workflow.dag.needrun_jobs(exclude_finished=False):
            name = job.wildcards_dict.get("recording", "")
            jobs.setdefault(job.rule.name, set()).add(name)
    jobs.pop("all", None)
    return jobs


def redone_by(jobs: dict[str, set[str]], expected: Redone) -> Redone:
    """What Snakemake's jobs make again; its stage 2 is one job, which keeps what it can."""
    return Redone(
        frozenset(jobs.get("stage1_compensate", ())),
        expected.fields if "stage2_between_avgs" in jobs else frozenset(),
        "stage3_valid_mask" in jobs,
        frozenset(jobs.get("stage3_align", ())),
    )
