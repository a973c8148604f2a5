"""The flow backends and devices tests go through.

Of one that is not installed there is one test, which is skipped with the reason; of one that is,
all tests are skipped for devices that are not here.

``PYFLOWREG_REQUIRE_BACKENDS`` names some that must be here, so that nothing is skipped unnoticed:
``PYFLOWREG_REQUIRE_BACKENDS="flowreg_torch-cpu diso" pytest tests -m backends``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from pyflowreg.core.backend_registry import BACKENDS, availability, get_backend
from pyflowreg.core.optical_flow import get_displacement
from pyflowreg.core.parameters import FlowParameters

VARIABLE = "PYFLOWREG_REQUIRE_BACKENDS"


@dataclass(frozen=True)
class Choice:
    """A backend and its settings."""

    name: str
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        device = self.params.get("device")
        return f"{self.name}-{device}" if device else self.name

    @property
    def solves(self) -> bool:
        """Whether it has the equations of flowreg, and so all its settings."""
        return not BACKENDS[self.name].unused

    def settings(self, **options: Any) -> dict[str, Any]:
        """Those of the options that the backend has a use for."""
        unused = BACKENDS[self.name].unused
        return {key: value for key, value in options.items() if key not in unused}

    def displacement(self, fixed: Any, moving: Any, **options: Any) -> np.ndarray:
        how = {"backend": self.name, "backend_params": self.params, **self.settings(**options)}
        return get_displacement(fixed, moving, **how)

    def plan(self, fixed: np.ndarray, **options: Any) -> Any:
        return get_backend(self.name, self.params).prepare(fixed, FlowParameters(**options))


ALL = [
    Choice(entry.name, {"device": device} if device else {})
    for entry in BACKENDS.values()
    for device in entry.devices or ("",)
]
INSTALLED = [choice for choice in ALL if availability(choice.name, on_this_machine=False).available]
OTHERS = [choice for choice in INSTALLED if choice.name != "flowreg"]


def required(choice: Choice) -> Choice:
    """Return the choice if it can be used here; else skip the test, or fail if it has to be."""
    found = availability(choice.name, choice.params)
    if not found.available:
        if choice.id in os.environ.get(VARIABLE, "").split():
            pytest.fail(f"{choice.id} is required ({VARIABLE}), but {found.why}")
        pytest.skip(f"{choice.id}: {found.why}")
    return choice
