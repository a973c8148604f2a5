"""Memory, run time and disk that the workflow's jobs reserve, from headers and settings alone.

Every function returns whole numbers in Snakemake's units (MB, minutes) and multiplies by
`attempt`, so that a profile with ``retries:`` gives a job that ran out a larger second try.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pyflowreg.core.backend_entries import HostNeeds
from pyflowreg.errors import InputError
from pyflowreg.io.safety import read_small
from pyflowreg.io.space import video_bytes
from pyflowreg.motion_correction.chunks import chunk_length
from pyflowreg.motion_correction.disk import binned_frames, stage1_bytes

MB = 1024**2
_MOST_BYTES = 2**20

# Peak of a job on a tiny recording, with numba, SciPy, h5py and tifffile loaded: 210 MB measured
# with cached kernels, 400 MB when it compiles them.
BASE_MB = 420
# Values of a chunk exist four times: the next is read and smoothed, two are computed, the one
# before is written. With all that: 442 MB measured with 512 x 512 pixels and two threads, 752 MB
# with eight, 531 MB with two channels; in float64 613 MB; with 1024 x 1024, in float32, 830 and
# 1225 MB.
COPIES = 4
# Seconds of one core per million pixels, frame and channel at the finest quality: 0.25 to 0.6
# measured with the default settings, up to 1.9 in double precision with robust smoothness.
SECONDS_PER_MEGAPIXEL = 2.0
# Planes in float64 that a thread of stage 2 holds besides: averages, smoothed, warped, and fields.
# With them 67 MB per thread measured with 512 x 512 pixels, 300 MB in all with one thread, whatever
# the number of recordings. Masks and files of stage 3 need less.
PLANES_BETWEEN_PER_CHANNEL = 6
PLANES_BETWEEN_SHARED = 8
# Stage 2 solves one field per recording, at full resolution.
SECONDS_PER_FIELD_MEGAPIXEL = 30.0
SAFETY = 1.3
# The Snakemake inside a job on a cluster, in SLURM twice: 145 and 157 MB measured.
SNAKEMAKE_MB = 330

OF_FLOWREG = HostNeeds()


class DamagedHeaderError(InputError, FileNotFoundError):
    """A header that says nothing; Snakemake takes it for one that is not there yet.

    Parameters
    ----------
    path : str
        The file.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"{path} is damaged. Delete it and run again")
        self.filename = path


def read_header(path: str | Path) -> Mapping[str, Any]:
    """Return what `write_header` wrote about a recording.

    A file is read once as long as it does not change: Snakemake asks for each resource of each job
    and attempt by itself, and those of stages 2 and 3 need all headers of the session.

    Parameters
    ----------
    path : path-like
        The recording's `inspect.json`.

    Returns
    -------
    mapping
        Entries of `RecordingInfo`; see `pyflowreg.session.preflight`.

    Raises
    ------
    FileNotFoundError
        Before that job has run; Snakemake then shows the resource as not yet known. A file that
        cannot be used counts as missing.
    """
    found = os.stat(path)  # noqa: PTH116 - the error names the file as Snakemake knows it
    return _read_header(os.fspath(path), (found.st_mtime_ns, found.st_size, found.st_ino))


@cache
def _read_header(path: str, version: tuple[int, int, int]) -> Mapping[str, Any]:
    del version
    try:
        header = json.loads(read_small(Path(path), _MOST_BYTES))
        sizes = [*header["shape"], header["itemsize"]]
        known = len(sizes) == 5 and all(type(n) is int and 0 < n < 2**63 for n in sizes)
    except (InputError, ValueError, TypeError, LookupError, RecursionError):
        known = False
    if not known:
        raise DamagedHeaderError(path)
    found: Mapping[str, Any] = header
    return found


def _size(header: Mapping[str, Any]) -> tuple[int, int, int, int, int]:
    """Return frames, height, width, channels and bytes per value of a recording."""
    frames, height, width, channels = (int(extent) for extent in header["shape"])
    return frames, height, width, channels, int(header["itemsize"])


def chunk_mb(
    header: Mapping[str, Any],
    threads: int = 1,
    precision: str = "double",
    needs: HostNeeds = OF_FLOWREG,
) -> float:
    """Return the memory of one chunk of frames with everything computed from it.

    Parameters
    ----------
    header : mapping
        Of the recording; see `read_header`.
    threads : int
        Frames computed at the same time.
    precision : str
        Of the optical flow, "single" or "double".
    needs : HostNeeds
        Of the backend.

    Returns
    -------
    float
        MB.
    """
    frames, height, width, channels, itemsize = _size(header)
    length = chunk_length(height, width, channels, threads, needs.chunk_bytes)
    pixels = min(frames, length) * height * width
    flow = _flow_itemsize(precision)
    # Raw, smooth and corrected frames; two components of the field; the mask.
    per_pixel = channels * (itemsize + flow + itemsize) + 2 * flow + 1
    return pixels * per_pixel * COPIES / MB


def solver_mb(
    header: Mapping[str, Any], precision: str = "double", needs: HostNeeds = OF_FLOWREG
) -> float:
    """Return the memory in which one thread computes one frame.

    Parameters
    ----------
    header : mapping
        Of the recording; see `read_header`.
    precision : str
        Of the optical flow, "single" or "double".
    needs : HostNeeds
        Of the backend.

    Returns
    -------
    float
        MB.
    """
    _, height, width, channels, _ = _size(header)
    planes = needs.planes_shared + needs.planes_per_channel * channels
    plane = max(height * width * _flow_itemsize(precision), needs.least_plane)
    return planes * plane / MB


def _flow_itemsize(precision: str) -> int:
    return 4 if precision == "single" else 8


def stage1_mem_mb(
    header: Mapping[str, Any],
    threads: int = 1,
    attempt: int = 1,
    precision: str = "double",
    needs: HostNeeds = OF_FLOWREG,
) -> int:
    """Return the memory of the motion correction of one recording.

    It does not grow with the length of a recording: frames pass through in chunks.

    Parameters
    ----------
    header : mapping
        Of the recording; see `read_header`.
    threads : int
        Frames computed at the same time.
    attempt : int
        Snakemake's count of tries, from 1; multiplies the result.
    precision : str
        Of the optical flow, "single" or "double".
    needs : HostNeeds
        Of the backend.

    Returns
    -------
    int
        MB.
    """
    solver = threads * solver_mb(header, precision, needs)
    chunk = chunk_mb(header, threads, precision, needs)
    return math.ceil((BASE_MB + needs.libraries_mb + solver + chunk) * SAFETY) * attempt


def stage1_runtime(
    header: Mapping[str, Any],
    threads: int = 1,
    attempt: int = 1,
    needs: HostNeeds = OF_FLOWREG,
) -> int:
    """Return the time of the motion correction of one recording.

    Parameters
    ----------
    header : mapping
        Of the recording; see `read_header`.
    threads : int
        Frames computed at the same time.
    attempt : int
        Snakemake's count of tries, from 1; multiplies the result.
    needs : HostNeeds
        Of the backend.

    Returns
    -------
    int
        Minutes.
    """
    frames, height, width, channels, _ = _size(header)
    seconds = frames * height * width * channels / 1e6 * SECONDS_PER_MEGAPIXEL / max(threads, 1)
    seconds *= needs.slowness
    return math.ceil(10 + seconds / 60 * SAFETY * 2) * attempt


def stage1_disk_mb(
    header: Mapping[str, Any], save_w: bool = False, bin_size: int = 1, buffer_size: int = 400
) -> int:
    """Return the disk space that the correction of one recording takes at most.

    Parameters
    ----------
    header : mapping
        Of the recording; see `read_header`.
    save_w : bool
        Whether the fields of all frames are written.
    bin_size, buffer_size : int
        Frames that are averaged in groups, and groups per batch.

    Returns
    -------
    int
        MB. The same number is compared with the free space when the job starts.
    """
    frames, height, width, channels, itemsize = _size(header)
    left = binned_frames(frames, bin_size, buffer_size)
    need = stage1_bytes((left, height, width, channels), itemsize, save_w=save_w)
    return math.ceil(need / MB)


def align_disk_mb(
    header: Mapping[str, Any], name: str = "TIFF", bin_size: int = 1, buffer_size: int = 400
) -> int:
    """Return the disk space of the aligned video of one recording.

    Parameters
    ----------
    header : mapping
        Of the recording; see `read_header`.
    name : str
        Format of the video.
    bin_size, buffer_size : int
        Frames that stage 1 averaged in groups, and groups per batch.

    Returns
    -------
    int
        MB.
    """
    frames, height, width, channels, itemsize = _size(header)
    left = binned_frames(frames, bin_size, buffer_size)
    return math.ceil(video_bytes((left, height, width, channels), itemsize, name) / MB)


class Reservation(NamedTuple):
    """What a job reserves.

    Parameters
    ----------
    mem_mb : int
        Memory, MB.
    runtime : int
        Time, minutes.
    """

    mem_mb: int
    runtime: int


def session_job(
    headers: Iterable[Mapping[str, Any]],
    threads: int = 1,
    attempt: int = 1,
    precision: str = "double",
    needs: HostNeeds = OF_FLOWREG,
) -> Reservation:
    """Return what a job needs that goes through averages, fields and masks of a session.

    The memory does not grow with the number of recordings: each thread works on one at a time.

    Parameters
    ----------
    headers : iterable of mapping
        One per recording; see `read_header`.
    threads : int
        Recordings worked on at the same time.
    attempt : int
        Snakemake's count of tries, from 1; multiplies the result.
    precision : str
        Of the optical flow, "single" or "double".
    needs : HostNeeds
        Of the backend.

    Returns
    -------
    Reservation
        Memory and time.
    """
    seconds = 0.0
    largest = 0.0
    for header in headers:
        frames, height, width, channels, _ = _size(header)
        planes = PLANES_BETWEEN_SHARED + PLANES_BETWEEN_PER_CHANNEL * channels
        images = planes * height * width * 8 / MB
        largest = max(largest, solver_mb(header, precision, needs) + images)
        field = height * width * channels / 1e6 * SECONDS_PER_FIELD_MEGAPIXEL * needs.slowness
        seconds += field / max(threads, 1)
        seconds += frames * height * width / 1e6 * 0.02  # reading the masks
    return Reservation(
        mem_mb=math.ceil((BASE_MB + needs.libraries_mb + threads * largest) * SAFETY) * attempt,
        runtime=math.ceil(10 + seconds / 60 * SAFETY) * attempt,
    )


def align_mem_mb(
    header: Mapping[str, Any], chunk: int, attempt: int = 1, libraries_mb: int = 0
) -> int:
    """Return the memory of the aligned video of one recording.

    Parameters
    ----------
    header : mapping
        Of the recording; see `read_header`.
    chunk : int
        Frames aligned at a time.
    attempt : int
        Snakemake's count of tries, from 1; multiplies the result.
    libraries_mb : int
        Memory of the libraries of a backend that warps.

    Returns
    -------
    int
        MB.
    """
    _, height, width, channels, itemsize = _size(header)
    frame = height * width * channels * (itemsize * 2 + 8 * 2) / MB
    return math.ceil((BASE_MB + libraries_mb + frame * chunk) * SAFETY) * attempt


def align_runtime(header: Mapping[str, Any], attempt: int = 1) -> int:
    """Return the time of the aligned video of one recording.

    Parameters
    ----------
    header : mapping
        Of the recording; see `read_header`.
    attempt : int
        Snakemake's count of tries, from 1; multiplies the result.

    Returns
    -------
    int
        Minutes.
    """
    frames, height, width, channels, _ = _size(header)
    seconds = frames * height * width * channels / 1e6 * 0.2
    return math.ceil(5 + seconds / 60 * SAFETY) * attempt
