"""Results that Snakemake would take as they are, although something they are made of has changed.

Snakemake compares times: it sees neither that a recording was replaced by an older file, nor that
a result is older than it looks because a clock was set back. The records tell (`session.sources`),
so that the workflow makes again what the command makes again.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from pyflowreg.session.outputs import RecordingPaths
from pyflowreg.session.records import read_sources
from pyflowreg.session.sources import (
    FIELD,
    corrected,
    correction_fingerprint,
    correction_sources,
    field_sources,
    header_mark,
    is_same_mask,
    mask_sources,
    video_sources,
)
from pyflowreg.session.status import file_identity, read_status
from pyflowreg.workflow.resources import DamagedHeaderError, read_header

if TYPE_CHECKING:
    from pyflowreg.workflow.plan import Plan


class Outdated:
    """Looks at the records of a session, at each of them once.

    Parameters
    ----------
    plan : Plan
        The session.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._settings = plan.config.settings_of_stage(1)
        self.correction = cache(self._correction)
        self._identity = cache(self._look)
        self._corrected = cache(lambda name: corrected(self._files(name)))
        self._field_sources = cache(lambda name: read_sources(plan.stage2_record_of(name)))

    def _files(self, name: str) -> RecordingPaths:
        return self._plan.paths.recording(name)

    def needs_correction(self, name: str) -> bool:
        """Return whether stage 1 of a recording has to be done.

        Parameters
        ----------
        name : str
            Name of the recording.

        Returns
        -------
        bool
            Also True if there are no results of the current settings.
        """
        return not self._plan.stage1_record_of(name).is_file() or self.correction(name)

    def _correction(self, name: str) -> bool:
        """Whether stage 1 was done with the current settings, but with another recording."""
        if not self._plan.stage1_record_of(name).is_file():
            return False
        identity = self._identity(name)
        if identity is None:
            return False
        made = read_status(self._files(name).status).get("fingerprint")
        return bool(made != correction_fingerprint(correction_sources(self._settings, identity)))

    def _look(self, name: str) -> list[Any] | None:
        """Size and time of a recording; None if it is not there, which is told elsewhere."""
        try:
            return file_identity(self._plan.recording(name).path)
        except OSError:
            return None

    def header(self, name: str) -> bool:
        """Return whether the header is of another recording, or cannot be read.

        Parameters
        ----------
        name : str
            Name of the recording.

        Returns
        -------
        bool
            False if there is none.
        """
        header, identity = self._files(name).header, self._identity(name)
        if identity is None or not header.exists():
            return False
        mark = header_mark(identity, self._settings["input_options"])
        return bool(read_status(header).get("made_of") != mark)

    def header_is_damaged(self, name: str) -> bool:
        """Return whether there is a header that nobody can read."""
        try:
            read_header(self._files(name).header)
        except FileNotFoundError as error:
            return isinstance(error, DamagedHeaderError)
        return False

    def field(self, name: str) -> bool:
        """Return whether the field of a recording was found with other averages.

        Parameters
        ----------
        name : str
            Name of the recording.

        Returns
        -------
        bool
            False if there are no results of the current settings, which Snakemake finds by itself;
            the same in the other functions.
        """
        found = self._field_sources(name)
        if found is None:
            return False
        current = field_sources(self._corrected(name), self._corrected(self._plan.center.name))
        return {**current, FIELD: found.get(FIELD)} != found

    def mask(self) -> bool:
        """Return whether the final mask was made from other masks or fields."""
        found = read_sources(self._plan.mask_record_file)
        fields = {entry.name: self._field_sources(entry.name) for entry in self._plan.recordings}
        if found is None or None in fields.values():
            return False
        parts = [
            (self._files(name), self._corrected(name), (field or {}).get(FIELD))
            for name, field in fields.items()
        ]
        return not is_same_mask(found, mask_sources(self._plan.paths.output_root, parts))

    def video(self, name: str) -> bool:
        """Return whether an aligned video was made from other frames, average or field.

        Parameters
        ----------
        name : str
            Name of the recording.

        Returns
        -------
        bool
            See `field`.
        """
        found = read_sources(self._plan.video_record_of(name))
        field = self._field_sources(name)
        if found is None or field is None:
            return False
        own, center = self._corrected(name), self._corrected(self._plan.center.name)
        return found != video_sources(own, center, field.get(FIELD))
