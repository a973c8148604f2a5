"""What a disk holds after the power went, as strictly as POSIX and a journal of names allow.

* Of a file, everything written before its last fsync is there. Of what was written later, any part.
* Of the names in a folder, every change before its last fsync is there. Of the changes that
  followed, some of the first, but never a change without those before it. Folders are independent
  of each other: no order holds between their changes, nor between names and contents.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

Event = Mapping[str, Any]
NAMES = frozenset({"create", "mkdir", "rmdir", "unlink", "rename", "link"})


def folder_of(event: Event) -> str:
    """Folder in which an event changes names."""
    return str(PurePosixPath(event["path"]).parent)


def _kept_names(events: Sequence[Event], chance: random.Random) -> list[Event]:
    by_folder: dict[str, list[int]] = {}
    sure: dict[str, int] = {}
    for index, event in enumerate(events):
        if event["kind"] in NAMES:
            by_folder.setdefault(folder_of(event), []).append(index)
        elif event["kind"] == "sync folder":
            sure[event["path"]] = index
    ends = {}
    for folder, indices in by_folder.items():
        least = sum(index < sure.get(folder, -1) for index in indices)
        ends[folder] = indices[: chance.randint(least, len(indices))][-1:] or [-1]
    return [
        event
        for index, event in enumerate(events)
        if event["kind"] in NAMES and index <= ends[folder_of(event)][0]
    ]


def _kept_contents(events: Sequence[Event], chance: random.Random) -> dict[int, bytearray]:
    synced = {event["file"]: index for index, event in enumerate(events) if event["kind"] == "sync"}
    share = chance.choice((0.0, 0.5, 1.0))
    files: dict[int, bytearray] = {}
    for index, event in enumerate(events):
        if event["kind"] not in ("write", "truncate"):
            continue
        sure = index < synced.get(event["file"], -1)
        if not sure and chance.random() >= share:
            continue
        content = files.setdefault(event["file"], bytearray())
        apply(content, event, whole=sure or chance.random() < 0.8)
    return files


def apply(content: bytearray, event: Event, whole: bool = True) -> None:
    """Change the content of a file as an event did, or only half of it."""
    if event["kind"] == "truncate":
        size = event["size"]
        content[:] = content[:size] + bytes(max(size - len(content), 0))
        return
    data = base64.b64decode(event["data"])
    data = data if whole else data[: len(data) // 2]
    begin, end = event["offset"], event["offset"] + len(data)
    content.extend(bytes(max(end - len(content), 0)))
    content[begin:end] = data


def after_power_loss(events: Sequence[Event], folder: Path, chance: random.Random) -> None:
    """Make, in an empty folder, what may be left of events that a power failure followed."""
    names: dict[str, int | None] = {}
    for event in _kept_names(events, chance):
        kind, path = event["kind"], event["path"]
        if kind in ("create", "link"):
            names[path] = event["file"]
        elif kind == "rename":
            names.pop(event["old"], None)
            names[path] = event["file"]
        elif kind == "mkdir":
            names[path] = None
        else:
            names.pop(path, None)
    contents = _kept_contents(events, chance)
    links: dict[int, Path] = {}
    for path in sorted(names, key=lambda path: path.count("/")):
        target, number = folder / path[1:], names[path]
        if not target.parent.is_dir():
            continue  # its folder was lost
        if number is None:
            target.mkdir()
        elif number in links:
            target.hardlink_to(links[number])
        else:
            target.write_bytes(contents.get(number, b""))
            links[number] = target


def published(events: Sequence[Event]) -> dict[str, set[bytes]]:
    """Contents that files had when they got their names, by name; hidden files are left out."""
    contents: dict[int, bytearray] = {}
    found: dict[str, set[bytes]] = {}
    for event in events:
        if event["kind"] in ("write", "truncate"):
            apply(contents.setdefault(event["file"], bytearray()), event)
        elif event["kind"] in ("rename", "link") and "/." not in event["path"]:
            found.setdefault(event["path"], set()).add(bytes(contents.get(event["file"], b"")))
    return found
