"""However a valid file is damaged, reading it ends in a message or in what its header says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ..fuzz.child import Child
from ..fuzz.mutations import KINDS, Mutation, mutated
from ..fuzz.seeds import seeds
from ..fuzz.targets import TARGETS

MEGABYTES = 300.0
LARGEST = 2**20
QUICK = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
MUTATIONS = st.builds(
    Mutation, st.sampled_from(KINDS), st.integers(0, LARGEST), st.integers(0, LARGEST)
)


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    with Child(60) as process:
        yield process


@pytest.fixture(scope="module")
def files() -> dict[str, list[bytes]]:
    return {target: seeds(target) for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
@QUICK
@given(
    number=st.integers(0, LARGEST),
    other=st.integers(0, LARGEST),
    changes=st.lists(MUTATIONS, max_size=5),
)
@example(number=0, other=0, changes=[])
def test_damaged_file(
    child: Child,
    files: dict[str, list[bytes]],
    target: str,
    number: int,
    other: int,
    changes: list[Mutation],
) -> None:
    valid = files[target]
    first, second = valid[number % len(valid)], valid[other % len(valid)]
    answer = child.read(target, mutated(first, second, changes), TARGETS[target].suffix)
    assert answer.is_fine, answer.outcome
    assert answer.megabytes < MEGABYTES


@pytest.mark.parametrize("target", ["tiff", "hdf5", "mat5", "displacement", "record"])
def test_truncated_at_any_byte(child: Child, files: dict[str, list[bytes]], target: str) -> None:
    content = files[target][0]
    for length in range(0, len(content), 1 + len(content) // 150):
        answer = child.read(target, content[:length], TARGETS[target].suffix)
        assert answer.is_fine, (length, answer.outcome)
