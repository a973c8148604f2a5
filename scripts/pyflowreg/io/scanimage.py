"""What ScanImage says about its files: which channels were saved, how many planes.

The place of these settings changed between versions: 2015 and later keep `SI.*` entries for all
frames in the Software tag, version 5 and 4 `scanimage.SI5.*` and `scanimage.SI4.*` lines in the
description of every page, version 3 `state.acq.*` lines.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pyflowreg.errors import InputError

_CHANNELS = (
    "SI.hChannels.channelSave",
    "scanimage.SI.hChannels.channelSave",
    "scanimage.SI5.channelsSave",
    "scanimage.SI4.channelsSave",
)
_SLICES = (
    "SI.hStackManager.actualNumSlices",
    "SI.hStackManager.numSlices",
    "scanimage.SI.hStackManager.numSlices",
    "scanimage.SI5.stackNumSlices",
    "scanimage.SI4.stackNumSlices",
    "state.acq.numberOfZSlices",
)
# A number of slices that is set but not used: all of these that are present are false.
_STACK_SWITCHES = (
    "SI.hStackManager.enable",
    "SI.hFastZ.enable",
    "scanimage.SI.hStackManager.enable",
    "scanimage.SI.hFastZ.enable",
)


def settings(tif: Any) -> dict[str, Any]:
    """Collect the acquisition settings of an open ScanImage file.

    Parameters
    ----------
    tif : tifffile.TiffFile
        Open file.

    Returns
    -------
    dict
        Values by the name ScanImage gives them; numbers, lists or text.
    """
    found: dict[str, Any] = {}
    page = tif.pages.first
    for line in (*page.description.splitlines(), *page.software.splitlines()):
        name, equals, value = line.partition("=")
        if equals:
            found[name.strip()] = value.strip()
    metadata = tif.scanimage_metadata
    if metadata:
        found.update(metadata.get("FrameData", {}))
    return found


def saved_channels(tif: Any) -> int | None:
    """Count the channels whose pages alternate in the file; None if it does not say."""
    values = settings(tif)
    for name in _CHANNELS:
        if name in values:
            return max(1, _count(values[name]))
    old = [v for k, v in values.items() if re.fullmatch(r"state\.acq\.savingChannel\d+", k)]
    if old:
        return max(1, sum(map(_is_on, old)))
    return None


def check_single_plane(path: Path, tif: Any) -> None:
    """Refuse a recording of several planes, which is not one field of view over time."""
    values = settings(tif)
    switches = [_is_on(values[name]) for name in _STACK_SWITCHES if name in values]
    if switches and not any(switches):
        return
    for name in _SLICES:
        if name in values:
            planes = _number(values[name])
            if planes > 1:
                raise InputError(
                    f"{path} was recorded with {planes} planes ({name}); a recording has one. "
                    "Export one plane per file, or set input_options.axes (and n_channels) if the "
                    "pages are frames of one plane"
                )
            return


def _is_on(value: object) -> bool:
    return str(value).lower() in {"1", "true"}


def _count(value: object) -> int:
    """Count the entries of a channel list: 2, [1, 2], [[1], [2]] or the text '[1;2]'."""
    if isinstance(value, list | tuple):
        return len(value)
    if isinstance(value, str):
        return len(re.findall(r"\d+", value))
    return 1


def _number(value: object) -> int:
    try:
        return int(float(str(value)))
    except (ValueError, OverflowError):
        return 1
