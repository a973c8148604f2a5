"""One level of a fixed frame on a device, and the kernels that improve a displacement there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.cuda.device import DeviceArray, Layout, Stream
from pyflowreg.core.cuda.grid import THREADS, parts, suffix, tiles
from pyflowreg.core.cuda.passes import Pass
from pyflowreg.core.cuda.resizing import Arrays, Resizing, mark_varying
from pyflowreg.core.cuda.skew import Skew
from pyflowreg.core.motion_tensor import COMPONENTS, census_numbers
from pyflowreg.core.noise import FEWEST_BLOCKS, block_count
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.plan_levels import PlanLevel


class DeviceLevel:
    """What is done with frames at one level.

    Parameters
    ----------
    number : int
        Which level, for names; 0 is the coarsest.
    found : PlanLevel
        The fixed frame at this level.
    parameters : FlowParameters
        Settings of the computation.
    frame : tuple of int
        Channels, height and width of the frames.
    coarse : tuple of int
        Height and width of the level before.
    shared_bytes : int
        Largest shared memory of a block.
    """

    def __init__(
        self,
        number: int,
        found: PlanLevel,
        parameters: FlowParameters,
        frame: tuple[int, int, int],
        coarse: tuple[int, int],
        shared_bytes: int,
    ) -> None:
        self._name = f"level {number}"
        self._found = found
        self._parameters = parameters
        self.kind = found.dtype
        self.size = (found.level.height, found.level.width)
        self._channels = frame[0]
        self._skew = Skew(*self.size)
        self._plane = self._skew.size
        self._robust = parameters.a_smooth != 1
        self._pass = Pass.choose(
            self._skew,
            self.kind,
            robust=self._robust,
            update_lag=parameters.update_lag,
            iterations=parameters.iterations,
            shared_bytes=shared_bytes,
        )
        self._from_frame = Resizing(frame[1:], self.size, self.kind)
        self._from_coarse = Resizing(coarse, self.size, self.kind)
        self._measured = bool(parameters.noise_weight) and block_count(self.size) >= FEWEST_BLOCKS

    def constants(self) -> dict[str, NDArray[Any]]:
        """What the kernels read besides the frames."""
        found, kind = self._found, self.kind
        weight = found.weight
        everywhere = weight.shape[1:] == (1, 1)
        weights = weight.reshape(-1) if everywhere else self._skew.packed(weight)
        starts = found.settings.numbers(self.size[0])[0]
        return {
            f"{self._name} base": self._skew.base(),
            f"{self._name} fixed": found.fixed,
            f"{self._name} energies": found.energies,
            f"{self._name} weights": weights,
            f"{self._name} exponents": found.settings.a_data.astype(kind),
            f"{self._name} starts": starts,
            **self._from_frame.tables(f"{self._name} frame"),
            **self._from_coarse.tables(f"{self._name} coarse"),
        }

    def reserve(self, layout: Layout, frames: int) -> None:
        """Make room for what is computed here from so many frames."""
        channels, kind = self._channels, self.kind
        pixels, plane = self.size[0] * self.size[1], self._plane
        border = (self.size[0] + 2) * (self.size[1] + 2) if self._robust else 0
        numbers = {
            "target": channels * pixels,
            "warped": channels * pixels,
            "field": 2 * pixels,
            "coarse": 2 * pixels,  # fields take turns
            "laplacian": 0 if self._robust else 2 * plane,
            "unknowns": 2 * plane,
            "rim": 2 * border,
            "psi": border,
            "ring": self._pass.ring,
            "kept": self._pass.kept * plane,
            # One after the other: between the passes of resizing; energies of blocks; tensors;
            # increments and medians.
            "scratch": max(
                channels * self._from_frame.middle,
                2 * self._from_coarse.middle,
                channels * block_count(self.size),
                channels * COMPONENTS * plane,
                4 * pixels,
            ),
        }
        for name, count in numbers.items():
            layout.reserve(name, (frames, count), kind)
        layout.reserve("energies", (frames, channels), np.float64)
        layout.reserve("flags", (frames, max(channels, 2)), np.int32)

    def enqueue(
        self,
        stream: Stream,
        full: DeviceArray,
        varying: DeviceArray,
        coarse: DeviceArray | None,
        given: DeviceArray,
        constants: Arrays,
        room: Arrays,
        warp: bool,
    ) -> DeviceArray:
        """Improve displacements at this level.

        Parameters
        ----------
        stream : Stream
            Where the work is queued.
        full, varying : DeviceArray
            Moving frames, planes (n C, H, W), and which of them are not constant.
        coarse : DeviceArray or None
            Displacements at the level before, (2 n, h', w'); None: `given` holds where to start.
        given : DeviceArray
            Bytes that take the displacements.
        constants : dict of str to DeviceArray
            Of all levels, see `constants`.
        room : dict of str to DeviceArray
            See `reserve`.
        warp : bool
            Warp the frames by the displacements first.

        Returns
        -------
        DeviceArray
            Displacements, planes (2 n, h, w).
        """
        frames = full.shape[0] // self._channels
        field = given.viewed((2 * frames, *self.size), self.kind)
        if coarse is not None:
            flags = room["flags"].viewed((2 * frames,), np.int32)
            mark_varying(stream, coarse, self.kind, flags)
            self._from_coarse.enqueue(
                stream, coarse, flags, constants, f"{self._name} coarse", room["scratch"], field
            )
        target = room["target"].viewed((frames * self._channels, *self.size), self.kind)
        self._from_frame.enqueue(
            stream, full, varying, constants, f"{self._name} frame", room["scratch"], target
        )
        warped = self._warped(stream, target, field, constants, room) if warp else target
        energies = self._energies(stream, target, room)
        tensor = self._tensor(stream, warped, energies, constants, room)
        self._solve(stream, frames, tensor, field, constants, room)
        self._add(stream, frames, field, constants, room)
        return field

    def _warped(
        self,
        stream: Stream,
        target: DeviceArray,
        field: DeviceArray,
        constants: Arrays,
        room: Arrays,
    ) -> DeviceArray:
        (height, width), level = self.size, self._found.level
        warped = room["warped"].viewed(target.shape, self.kind)
        stream.launch(
            f"warp_level_{suffix(self.kind)}",
            (parts(height * width), target.shape[0] // self._channels), THREADS,
            target, field, constants[f"{self._name} fixed"], self._channels, height, width,
            np.float64(1 / level.hx), np.float64(1 / level.hy), warped,
        )  # fmt: skip
        return warped

    def _energies(self, stream: Stream, target: DeviceArray, room: Arrays) -> DeviceArray:
        """Noise of the planes before warping, which would smooth it away."""
        count, (height, width), level = target.shape[0], self.size, self._found.level
        energies = room["energies"].viewed((count,), np.float64)
        if not self._measured:
            stream.clear(energies)
            return energies
        blocks = block_count(self.size)
        real = self.kind.type
        found = room["scratch"].viewed((count, blocks), self.kind)
        stream.launch(
            f"block_energies_{suffix(self.kind)}", (parts(blocks), count), THREADS,
            target, height, width, real(0.5 / level.hx), real(0.5 / level.hy), found,
        )  # fmt: skip
        stream.launch(
            f"lower_quartile_{suffix(self.kind)}", (count, 1), THREADS, found, blocks, energies
        )
        return energies

    def _tensor(
        self,
        stream: Stream,
        warped: DeviceArray,
        energies: DeviceArray,
        constants: Arrays,
        room: Arrays,
    ) -> DeviceArray:
        count, (height, width), level = warped.shape[0], self.size, self._found.level
        parameters, real = self._parameters, self.kind.type
        tensor = room["scratch"].viewed((count, COMPONENTS, self._plane), self.kind)
        grid = (tiles(height, width), count)
        common = (
            constants[f"{self._name} fixed"], warped, self._channels, height, width,
            constants[f"{self._name} base"], self._plane,
        )  # fmt: skip
        hx, hy, half = real(level.hx), real(level.hy), real(0.5)
        if parameters.data_term == "cs":
            distances, eps = census_numbers(level.hx, level.hy, self.kind)
            stream.launch(
                f"census_{suffix(self.kind)}", grid, THREADS, *common, real(0.25) / hx,
                real(0.25) / hy, *distances, eps, tensor,
            )  # fmt: skip
            return tensor
        gray = parameters.data_term == "gray"
        part = real(0.25) if gray else half
        cx, cy = part / hx, part / hy
        stream.launch(
            f"constancy_{suffix(self.kind)}", grid, THREADS, *common, int(gray), cx, cy,
            half / (hx * hx), half / (hy * hy), half * cx * cy,
            np.float64(parameters.normaliser), np.float64(parameters.noise_weight),
            constants[f"{self._name} energies"], energies, tensor,
        )  # fmt: skip
        return tensor

    def _solve(
        self,
        stream: Stream,
        frames: int,
        tensor: DeviceArray,
        field: DeviceArray,
        constants: Arrays,
        room: Arrays,
    ) -> None:
        height, width = self.size
        settings, way, real = self._found.settings, self._pass, self.kind.type
        numbers = settings.numbers(height)
        ax, ay, cx, cy = numbers[3:7]
        base = constants[f"{self._name} base"]
        weights = constants[f"{self._name} weights"]
        kept = room["kept"] if way.kept else None
        common = (
            room["unknowns"], kept, weights, int(len(weights.shape) > 1),
            constants[f"{self._name} exponents"], constants[f"{self._name} starts"],
            self._channels, height, width, base, self._plane, ax, ay,
        )  # fmt: skip
        sweeps = (way.fused, settings.iterations, settings.update_lag)
        length = self._skew.length
        kernel = "solve_robust" if self._robust else "solve"
        call = (f"{kernel}_{suffix(self.kind)}", (frames, 1), way.threads)
        memory = None if way.shared else room["ring"]
        step = np.int64(way.ring)
        if self._robust:
            stream.launch(
                *call, tensor, *common, field, room["rim"], room["psi"],
                real(settings.a_smooth), real(settings.smoothness_epsilon), cx, cy, *sweeps,
                length, memory, step, shared=way.shared,
            )  # fmt: skip
            return
        laplacian = room["laplacian"]
        stream.launch(
            f"laplacian_{suffix(self.kind)}", (tiles(height, width), 2 * frames), THREADS,
            field, height, width, base, self._plane, ax, ay, laplacian,
        )  # fmt: skip
        stream.launch(
            *call, tensor, laplacian, *common, *sweeps, length, memory, step, shared=way.shared,
        )  # fmt: skip

    def _add(
        self, stream: Stream, frames: int, field: DeviceArray, constants: Arrays, room: Arrays
    ) -> None:
        """Add the increments to the displacements, with the medians."""
        height, width = self.size
        count, pixels, kind = 2 * frames, height * width, suffix(self.kind)
        both = room["scratch"].viewed((2 * count, height, width), self.kind)
        increments, sums = both.first(count), both.after(count)
        broken = room["flags"].viewed((count,), np.int32)
        stream.clear(broken)
        stream.launch(
            f"unskewed_{kind}", (tiles(height, width), count), THREADS,
            room["unknowns"], height, width, constants[f"{self._name} base"], self._plane,
            increments, broken,
        )  # fmt: skip
        twice = self._found.twice
        stream.launch(
            f"add_increments_{kind}", (parts(pixels), count), THREADS,
            increments, broken, height, width, int(self._found.filtered),
            self.kind.type(np.nan), field, sums if twice else field,
        )  # fmt: skip
        if twice:
            stream.launch(
                f"median_planes_{kind}", (parts(pixels), count), THREADS,
                sums, broken, height, width, field,
            )  # fmt: skip
