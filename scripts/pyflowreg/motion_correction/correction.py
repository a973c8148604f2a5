"""The motion correction of one recording, batch by batch.

A batch (`buffer_size` frames) is the unit over which the initial displacement is carried on; it is
computed in chunks of frames, so memory depends on neither the batch nor the recording. Method:
Flotho et al., J. Biophotonics 2022, doi:10.1002/jbio.202100330.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.backend_registry import BACKENDS, FlowPlan, get_backend
from pyflowreg.core.backend_types import Corrects, LimitsChunks, RawChunk, Warps
from pyflowreg.core.frame_warp import warp_frames
from pyflowreg.core.interruption import uninterrupted
from pyflowreg.core.numerics import MIN_SIDE, to_dtype
from pyflowreg.core.parameters import FlowParameters
from pyflowreg.core.threads import overlapped
from pyflowreg.core.warping import warp_sequence
from pyflowreg.errors import InputError
from pyflowreg.io import Reader
from pyflowreg.io.writing import restoring
from pyflowreg.motion_correction.chunks import chunk_length
from pyflowreg.motion_correction.corrected import CorrectedChunk, by_user, described
from pyflowreg.motion_correction.frames import BinnedFrames, FrameRange
from pyflowreg.motion_correction.options import OFOptions
from pyflowreg.motion_correction.preprocessing import (
    Chunk,
    Preprocessor,
    gaussian,
    without_rounding,
)
from pyflowreg.motion_correction.reference import (
    ReferenceProgress,
    load_reference,
    reference_scale,
    standardise,
)
from pyflowreg.motion_correction.reference_update import ReferenceUpdate
from pyflowreg.motion_correction.rigid import integer_shift, rigid_shift
from pyflowreg.motion_correction.statistics import RunningMean

FIRST_FRAMES = 22
"""Frames at the beginning of a recording whose mean displacement starts the first batch."""

LONG_BATCH = 100
"""Batches of more frames hand on the mean of their last fields only."""

LAST_FIELDS = 21

State = Mapping[str, NDArray[Any]]
"""Named arrays of which one thread makes all, and another computation can go on from them."""


_Computed = tuple[tuple[int, NDArray[Any] | None], NDArray[Any], CorrectedChunk]
"""Number of the first frame in the batch and the smoothed frames if they are known, whole-pixel
shifts (n, 2) that the displacements include, and the corrected frames."""


def flow_parameters(options: OFOptions, channels: int) -> FlowParameters:
    """Translate the options of a recording into those of the flow."""
    weight = options.weight_for(channels)
    return FlowParameters.create(
        alpha=options.alpha_pair,
        a_data=options.a_data_for(channels).tolist(),
        weight=weight if weight.ndim == 1 else np.moveaxis(weight, 0, -1),
        levels=options.levels,
        eta=options.eta,
        iterations=options.iterations,
        update_lag=options.update_lag,
        a_smooth=options.a_smooth,
        min_level=options.effective_min_level,
        data_term=options.constancy_assumption,
        numerics=options.numerics,
        precision=options.precision,
    )


class RecordingCorrection:
    """Registers every frame of a recording to one reference.

    Parameters
    ----------
    reader : Reader
        The recording.
    options : OFOptions
        How to correct it.
    reference : ndarray, optional
        Image (H, W) or (H, W, C) to register to, instead of `options.reference_frames`.
    threads : int
        Frames computed at the same time; the result does not depend on it.
    state : mapping, optional
        What `state` returned when the correction of this recording was interrupted; it goes on.
    progress : ReferenceProgress, optional
        How far the reference is made, for going on with that.

    Raises
    ------
    ConfigError
        If options or reference do not fit the recording.
    InputError
        If the frames are too small.
    BackendError
        If the flow backend is not installed.
    """

    def __init__(
        self,
        reader: Reader,
        options: OFOptions,
        reference: NDArray[Any] | None = None,
        threads: int = 1,
        state: State | None = None,
        progress: ReferenceProgress | None = None,
    ) -> None:
        self.options = options
        self._threads = threads
        self._backend = get_backend(options.flow_backend, options.backend_params)
        _, self._height, self._width, channels = reader.shape
        if min(self._height, self._width) < MIN_SIDE:
            raise InputError(
                f"{reader.path} has frames of {self._height} x {self._width} pixels; both sides "
                f"must have at least {MIN_SIDE}."
            )
        self._parameters = flow_parameters(options, channels)
        self._parameters.weight_planes(self._height, self._width, channels)
        switches = self._parameters.switches
        self._frames = BinnedFrames(reader, options.bin_size, options.buffer_size, switches)
        self._sigma = options.sigma_array(channels)
        self._joint = options.channel_normalization == "joint"
        self._chunk = self._chunk_length(channels)
        self.shape = self._frames.shape
        self.dtype = options.output_dtype(reader.dtype)
        if state is None:
            self.reference = self._make_reference(reference, progress)
        else:
            with restoring():
                self.reference = np.array(state["reference"], dtype=np.float64)
                if self.reference.shape != self.shape[1:]:
                    raise ValueError("frames of another shape")
        self._prepare()
        self._w_init = np.zeros((self._height, self._width, 2))
        self._first = self.next = 0
        self._handed_on, self._candidate = RunningMean(), self._new_candidate(0)
        self.latest: CorrectedChunk | None = None
        if state is not None:
            with restoring():
                self._restore(state)

    def _chunk_length(self, channels: int) -> int:
        """Frames computed at a time: what memory is reserved for, unless the backend says less."""
        size = BACKENDS[self.options.flow_backend].chunk_bytes
        most = chunk_length(self._height, self._width, channels, self._threads, size)
        if not isinstance(self._backend, LimitsChunks):
            return most
        return self._backend.preferred_chunk(
            self._height, self._width, channels, self._parameters, most
        )

    def _make_reference(
        self, given: NDArray[Any] | None, progress: ReferenceProgress | None
    ) -> NDArray[np.float64]:
        loaded = load_reference(
            self.options,
            self._frames,
            given,
            self._backend,
            self._parameters,
            self._sigma,
            chunk=self._chunk,
            threads=self._threads,
            progress=progress,
        )
        if not loaded.external:
            return loaded.raw
        switches = self._parameters.switches
        return standardise(loaded, self._batch(0), self._sigma, self._chunk, switches)

    def _prepare(self) -> None:
        switches = self._parameters.switches
        first = self._batch(0)
        self._outside = to_dtype(self.reference, self.dtype)
        scale = reference_scale(
            self.reference,
            first,
            self._sigma,
            joint=self._joint,
            chunk=self._chunk,
            switches=switches,
        )
        self._preprocess = Preprocessor(
            self._sigma,
            self._parameters.dtype,
            self._joint,
            self._chunk,
            None if switches.batch_range else scale,
            self._threads,
        )
        if switches.batch_range:
            smooth = gaussian(self.reference[None], self._sigma)[0]
            self._set_fixed(scale(without_rounding(smooth), np.float64))
        else:
            # In the same order as the frames, so that a still frame has exactly no displacement.
            fixed = scale(self.reference[None], self._parameters.dtype)
            self._set_fixed(gaussian(fixed, self._sigma)[0])

    def _set_fixed(self, fixed: NDArray[Any]) -> None:
        self._fixed = fixed
        self._plan: FlowPlan = self._backend.prepare(fixed, self._parameters)

    def _batch(self, start: int) -> FrameRange:
        stop = min(start + self.options.buffer_size, self.shape[0])
        return FrameRange.batch(self._frames, start, stop)

    def _new_candidate(self, start: int) -> ReferenceUpdate | None:
        if not self.options.update_reference:
            return None
        length = self._batch(start).length
        return ReferenceUpdate(self.shape[1:], length, self.options.interpolation_method)

    def state(self) -> State:
        """Copy everything that the frames from `next` on depend on.

        Returns
        -------
        dict of str to ndarray
            For `state` of another object.
        """
        state = {
            "reference": self.reference,
            "first": np.array(self._first),
            "next": np.array(self.next),
            "w_init": self._w_init,
            **self._handed_on.state("handed_on"),
        }
        if self._candidate is not None:
            state |= {"fixed": self._fixed, **self._candidate.state()}
        return state

    def _restore(self, state: State) -> None:
        self._first, self.next = int(state["first"]), int(state["next"])
        self._w_init = np.array(state["w_init"])
        if self._w_init.shape != (self._height, self._width, 2):
            raise ValueError("displacements of another shape")
        self._handed_on = RunningMean.from_state("handed_on", state)
        self._candidate = self._new_candidate(self._first)
        if self._candidate is not None:
            self._candidate.restore(state)
            self._set_fixed(np.array(state["fixed"]))

    def chunks(self) -> Iterator[CorrectedChunk]:
        """Correct the recording from frame `next` to its last.

        Yields
        ------
        CorrectedChunk
        """
        while self._first < self.shape[0]:
            batch = self._batch(self._first)
            if self.next == 0 and self.options.update_initialization_w:
                self._w_init = self._initial_displacement(batch)
            yield from self._correct_batch(batch)
            uninterrupted(partial(self._begin_batch, self._first + batch.length))

    def _begin_batch(self, start: int) -> None:
        """Take over what the batch before hands on."""
        if self.options.update_initialization_w:
            self._w_init = self._handed_on.mean()
        if self._candidate is not None:
            self._set_fixed(self._candidate.reference())
        self._first, self._handed_on = start, RunningMean()
        if start < self.shape[0]:
            self._candidate = self._new_candidate(start)

    def _initial_displacement(self, batch: FrameRange) -> NDArray[np.float64]:
        first = replace(batch, length=min(FIRST_FRAMES, batch.length))
        mean = RunningMean()
        for start, _, smooth in self._preprocess.chunks(first):
            if self.options.cc_initialization:
                shifts = [self._shift(frame) for frame in smooth]
                fields: Any = [np.broadcast_to(s, self._w_init.shape) for s in shifts]
            else:
                fields = self._plan.displacements(smooth, threads=self._threads)
                first.checked_fields(start, fields)
            for w in fields:
                mean.add(self._handed_on_of(np.asarray(w), np.asarray(w)))
        return mean.mean()

    def _shift(self, frame: NDArray[Any]) -> NDArray[np.float64]:
        """Whole-pixel shift of a preprocessed frame from the reference, (2,)."""
        if self._parameters.switches.plain_correlation:
            return integer_shift(self._fixed, frame)
        planes = self._parameters.weight_planes(self._height, self._width, frame.shape[2])
        weight = np.moveaxis(planes, 0, -1)
        fixed, moving = ((image * weight).sum(axis=-1) for image in (self._fixed, frame))
        return np.asarray(np.round(rigid_shift(fixed, moving, 1)), dtype=np.float64)

    def _handed_on_of(self, w: NDArray[Any], shift: NDArray[Any]) -> NDArray[Any]:
        """What later frames start from: with `cc_initialization`, without the shift.

        The original hands on the whole displacement, although the next frames are shifted by
        themselves first, so that the shift counts twice.
        """
        if not self.options.cc_initialization or self._parameters.switches.shift_counts_twice:
            return w
        return np.asarray(w - shift)

    def _correct_batch(self, batch: FrameRange) -> Iterator[CorrectedChunk]:
        first = self._first

        for chunk, shifts, corrected in self._computed(batch, self.next - first):
            if not np.isfinite(corrected.statistics).all():
                batch.checked_fields(chunk[0], corrected.w)
            # Whenever Ctrl-C comes, a chunk is counted everywhere or nowhere.
            uninterrupted(partial(self._count, batch, chunk, shifts, corrected))
            yield corrected

    def _count(
        self,
        batch: FrameRange,
        chunk: tuple[int, NDArray[Any] | None],
        shifts: NDArray[Any],
        corrected: CorrectedChunk,
    ) -> None:
        """Take a corrected chunk in for what comes after it."""
        (start, smooth), w = chunk, corrected.w
        from_frame = batch.length - LAST_FIELDS if batch.length > LONG_BATCH else 0
        last = slice(max(from_frame - start, 0), None)
        self._handed_on.add_all(self._handed_on_of(w[last], shifts[last, None, None]))
        if self._candidate is not None:
            assert smooth is not None
            self._candidate.add(start, smooth, w)
        self.next, self.latest = corrected.start + len(w), corrected

    def _computed(self, batch: FrameRange, begin: int) -> Iterator[_Computed]:
        """Correct a batch chunk by chunk, from its frame `begin` on."""
        first = self._first
        plan = self._plan
        if isinstance(plan, Corrects) and self._is_plain:

            def correct_all(item: tuple[int, RawChunk]) -> _Computed:
                start, chunk = item
                w, warped = plan.correct(
                    chunk, self._w_init, self._outside, self.dtype, self._threads
                )
                shifts = np.zeros((len(w), 2))
                return (start, None), shifts, described(first + start, w, warped)

            chunks = self._preprocess.raw_chunks(batch, begin)
            # Two at a time even with one thread: the backend computes one while the frames of the
            # other come and go.
            yield from overlapped(correct_all, chunks, max(self._threads, 2))
            return

        def correct(chunk: Chunk) -> _Computed:
            start, raw, smooth = chunk
            w, shifts = self._displacements(smooth)
            return (start, smooth), shifts, self._corrected(first + start, raw, w)

        yield from overlapped(correct, self._preprocessed(batch, begin), self._threads)

    @property
    def _is_plain(self) -> bool:
        """Whether nothing is wanted of the smoothed frames but their displacements."""
        options = self.options
        return not (
            self._parameters.switches.batch_range
            or options.preproc_funct is not None
            or options.cc_initialization
            or options.update_reference
        )

    def _displacements(self, smooth: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Displacements of preprocessed frames, and the whole-pixel shifts (n, 2) they include."""
        if not self.options.cc_initialization:
            w = self._plan.displacements(smooth, self._w_init, self._threads)
            return w, np.zeros((len(smooth), 2))
        shape = (len(smooth), self._height, self._width, 2)
        shifts = np.stack([self._shift(frame) for frame in smooth])
        constant = np.broadcast_to(shifts[:, None, None], shape).astype(self._parameters.dtype)
        shifted = warp_sequence(smooth, constant, self._fixed, threads=self._threads)
        w = constant + self._plan.displacements(shifted, self._w_init, self._threads)
        return w, shifts

    def _preprocessed(self, batch: FrameRange, begin: int) -> Iterator[Chunk]:
        """Chunks of a batch, the raw frames after `preproc_funct`, which need not be threadsafe."""
        function = self.options.preproc_funct
        for start, raw, smooth in self._preprocess.chunks(batch, begin):
            yield start, raw if function is None else by_user(function, raw), smooth

    def _corrected(self, start: int, raw: NDArray[Any], w: NDArray[Any]) -> CorrectedChunk:
        warp = self._backend.warp_frames if isinstance(self._backend, Warps) else warp_frames
        return described(start, w, warp(raw, w, self._outside, self.dtype, self._threads))
