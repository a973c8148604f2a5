"""Whether disks have room for a whole session: only a remark, for they may be freed meanwhile."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from pyflowreg.io.space import free_bytes, held_bytes, nearest_folder, show_gb, video_bytes
from pyflowreg.motion_correction.disk import binned_frames, stage1_bytes
from pyflowreg.session.config import SessionConfig
from pyflowreg.session.outputs import session_paths
from pyflowreg.session.preflight import Session


def room_remark(config: SessionConfig, session: Session) -> str | None:
    """Compare the disk space that the results of a session take with what is free.

    Parameters
    ----------
    config : SessionConfig
        The session.
    session : Session
        Its recordings and their headers.

    Returns
    -------
    str or None
        What the user should know; None if there is room. What is there counts as made, for what
        replaces it takes the same room.
    """
    paths = session_paths(config)
    options = config.options_for()
    need: dict[int, int] = defaultdict(int)
    folders: dict[int, Path] = {}
    for recording, info in zip(session.recordings, session.infos, strict=True):
        files = paths.recording(recording.name)
        frames = binned_frames(info["frames"], options.bin_size, options.buffer_size)
        shape = (frames, info["height"], info["width"], info["channels"])
        correction = video = 0
        if not files.status.is_file():
            correction = stage1_bytes(shape, info["itemsize"], save_w=options.save_w)
            correction -= held_bytes([files.folder, files.checkpoint])
        if not files.aligned.is_file():
            video = video_bytes(shape, info["itemsize"], config.align_output_format)
        wanted = ((files.folder, correction), (files.results, video))
        for folder, missing in wanted:
            disk = nearest_folder(folder).stat().st_dev
            folders.setdefault(disk, folder.parent if folder == files.folder else folder)
            need[disk] += max(missing, 0)
    remarks = [
        f"the results still to be made take {show_gb(missing)} in {folders[disk]}, "
        f"{show_gb(free)} are free"
        for disk, missing in need.items()
        if missing > (free := free_bytes(folders[disk]))
    ]
    if not remarks:
        return None
    return (
        f"Not enough disk space for the whole session: {'; '.join(remarks)}. It is started "
        "nevertheless; a recording that finds no room stops with a message, and the same command "
        "goes on when there is."
    )
