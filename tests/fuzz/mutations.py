"""Ways to damage a file, described by numbers, so that hypothesis can choose and shrink them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = ("cut", "flip", "byte", "number", "remove", "repeat", "splice", "zero")
_NUMBERS = (
    0, 1, 2, 7, 8, 255, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62,
    2**63 - 1, 2**63, 2**64 - 1,
)  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One change.

    Parameters
    ----------
    kind : str
        One of `KINDS`.
    place : int
        Where, taken modulo the length of the file.
    value : int
        What; its meaning depends on the kind.
    """

    kind: str
    place: int
    value: int

    def apply(self, content: bytearray, other: bytes) -> bytearray:
        """Return the changed content; `other` is a file to take a piece of."""
        if not content:
            return content
        at, value = self.place % len(content), self.value
        length = value % 64 + 1
        if self.kind == "cut":
            return content[:at]
        if self.kind == "flip":
            content[at] ^= 1 << value % 8
        elif self.kind == "byte":
            content[at] = value % 256
        elif self.kind == "number":
            width, order = (1, 2, 4, 8)[value % 4], ("little", "big")[value // 4 % 2]
            number = _NUMBERS[value // 8 % len(_NUMBERS)] % 256**width
            content[at : at + width] = number.to_bytes(width, order)
        elif self.kind == "remove":
            del content[at : at + length]
        elif self.kind == "repeat":
            content[at:at] = content[at : at + length] * (value // 64 % 8 + 1)
        elif self.kind == "splice":
            start = value % max(len(other), 1)
            piece = other[start : start + length]
            content[at : at + len(piece)] = piece
        elif self.kind == "zero":
            content[at : at + length] = bytes(min(length, len(content) - at))
        return content


def mutated(content: bytes, other: bytes, changes: Sequence[Mutation]) -> bytes:
    """Apply changes one after the other."""
    result = bytearray(content)
    for change in changes:
        result = change.apply(result, other)
    return bytes(result)


def random_mutations(source: random.Random) -> list[Mutation]:
    """Draw one to six changes."""
    return [
        Mutation(source.choice(KINDS), source.randrange(2**20), source.randrange(2**20))
        for _ in range(source.choice((1, 1, 1, 2, 3, 6)))
    ]
