"""What results are made of, told without reading frames, fields or masks.

Each stage notes it in its record; a result whose note differs from what is there now is outdated,
whatever the times of files say. The command and Snakemake ask the same functions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyflowreg.session.outputs import RecordingPaths, find_compensated, find_idx
from pyflowreg.session.status import digest, file_identity, read_status

FIELD, FOLDER = "field", "folder"


def correction_sources(settings: Mapping[str, Any], identity: Sequence[Any]) -> dict[str, Any]:
    """Return what stage 1 of a recording depends on.

    Parameters
    ----------
    settings : mapping
        `SessionConfig.settings_of_stage(1)`.
    identity : sequence
        `file_identity` of the recording.

    Returns
    -------
    dict
        By what it is called in messages.
    """
    return {"settings": settings, "input": identity}


def correction_fingerprint(sources: Mapping[str, Any]) -> str:
    """Return the fingerprint that status.json has if stage 1 is finished and current.

    Parameters
    ----------
    sources : mapping
        `correction_sources` of the recording.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    return digest(*sources.values())


def header_mark(identity: Sequence[Any], input_options: Mapping[str, Any] | None) -> str:
    """Return a fingerprint of what the header of a recording depends on.

    Parameters
    ----------
    identity : sequence
        `file_identity` of the recording.
    input_options : mapping, optional
        How to read it.

    Returns
    -------
    str
        64 hexadecimal digits.
    """
    options = {key: value for key, value in (input_options or {}).items() if value is not None}
    return digest(options, identity)


def corrected(paths: RecordingPaths) -> Any:
    """Tell which results of stage 1 are there.

    Parameters
    ----------
    paths : RecordingPaths
        Files of the recording.

    Returns
    -------
    str or list or None
        The fingerprint in status.json; for frames of another program, which have none, sizes and
        times of the files; None if there are none.
    """
    status = read_status(paths.status)
    if status.get("stage1") == "done":
        return status.get("fingerprint")
    found = (find_compensated(paths.folder), find_idx(paths.folder), paths.temporal_average)
    there = [path for path in found if path is not None and path.is_file()]
    return [[path.name, *file_identity(path)[0]] for path in there] or None


def field_sources(recording: Any, center: Any) -> dict[str, Any]:
    """Return what the field of a recording is made from, besides the settings.

    Parameters
    ----------
    recording, center : str or list
        What `corrected` returns for the recording and for the centre.

    Returns
    -------
    dict
        For the record, which has the field's own fingerprint besides, under `FIELD`.
    """
    return {"recording": recording, "center": center}


def video_sources(recording: Any, center: Any, field: Any) -> dict[str, Any]:
    """Return what the aligned video of a recording is made from, besides the settings.

    Parameters
    ----------
    recording, center : str or list
        What `corrected` returns for the recording and for the centre.
    field : str or list
        Which field it is.

    Returns
    -------
    dict
        For the record.
    """
    return {**field_sources(recording, center), FIELD: field}


def mask_sources(folder: Path, parts: Iterable[tuple[RecordingPaths, Any, Any]]) -> dict[str, Any]:
    """Return what the files of the final mask are made from, besides the settings.

    Parameters
    ----------
    folder : Path
        The session's `output_root`, which stands in the files.
    parts : iterable of tuple
        Files, what `corrected` returns and which field it is, for each recording in natural order.

    Returns
    -------
    dict
        For the record.
    """
    entries = [
        [paths.name, shown_path(paths).name, recording, field] for paths, recording, field in parts
    ]
    return {FOLDER: str(folder), "recordings": digest(entries)}


def is_same_mask(found: Mapping[str, Any] | None, current: Mapping[str, Any]) -> bool:
    """Tell whether the files of a final mask are current.

    Parameters
    ----------
    found : mapping or None
        What the record has.
    current : mapping
        What `mask_sources` returns.

    Returns
    -------
    bool
        The folder may be spelt in two ways; one that was moved is another.
    """
    if found is None:
        return False
    first, second = (
        {**sources, FOLDER: os.path.abspath(str(sources.get(FOLDER)))}  # noqa: PTH100
        for sources in (found, current)
    )
    return first == second


def shown_path(paths: RecordingPaths) -> Path:
    """Return the path of the corrected frames as it stands in the files of the mask.

    Parameters
    ----------
    paths : RecordingPaths
        Files of the recording.

    Returns
    -------
    Path
        Relative if `root` is.
    """
    return find_compensated(paths.folder) or paths.compensated
