"""One recording from its first frame to its last, written while others are computed, or resumed."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflowreg.core.compilation.log import compile_log
from pyflowreg.core.interruption import uninterrupted
from pyflowreg.core.threads import Behind
from pyflowreg.io import Reader
from pyflowreg.io.fields import FieldWriter, MaskWriter
from pyflowreg.io.writing import BaseWriter, Position, ResumeError, WriterGroup, restoring
from pyflowreg.motion_correction.checkpoint import Checkpoint, State
from pyflowreg.motion_correction.corrected import CorrectedChunk
from pyflowreg.motion_correction.correction import RecordingCorrection
from pyflowreg.motion_correction.options import OFOptions
from pyflowreg.motion_correction.progress import Progress
from pyflowreg.motion_correction.reference import ReferenceProgress
from pyflowreg.motion_correction.statistics import RunningMean

logger = logging.getLogger(__name__)

STOPPED = (KeyboardInterrupt, SystemExit)
"""What Ctrl-C and, in jobs and on the command line, SIGTERM raise."""


@dataclass(frozen=True)
class Outputs:
    """Writers of the corrected frames, and of masks and fields if they are asked for."""

    video: BaseWriter
    masks: MaskWriter | None
    fields: FieldWriter | None

    @property
    def writers(self) -> dict[str, BaseWriter]:
        """Those there are, by name."""
        named = {"video": self.video, "masks": self.masks, "fields": self.fields}
        return {name: writer for name, writer in named.items() if writer is not None}

    def write(self, chunk: CorrectedChunk) -> None:
        """Append frames, masks and fields."""
        self.video.write(chunk.frames)
        if self.masks is not None:
            self.masks.write(chunk.valid)
        if self.fields is not None:
            self.fields.write(chunk.w)

    def continue_from(self, state: State) -> None:
        """Continue the files of an interrupted run; see `positions`."""
        for name, writer in self.writers.items():
            prefix = f"{name} "
            writer.continue_from(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )

    def positions(self, frames: int) -> dict[str, NDArray[Any]]:
        """Return what is needed to continue the files after their first frames."""
        found: dict[str, NDArray[Any]] = {}
        for name, writer in self.writers.items():
            position: Position = writer.position(frames)
            found |= {f"{name} {key}": np.asarray(value) for key, value in position.items()}
        return found


class Results:
    """What is computed from corrected frames besides the files.

    Parameters
    ----------
    state : mapping, optional
        What `state` returned in a run that was interrupted.
    """

    def __init__(self, state: State | None = None) -> None:
        self.average = RunningMean()
        self._rows: list[NDArray[np.float64]] = []
        if state is not None:
            self.average = RunningMean.from_state("average", state)
            self._rows = [np.array(state["statistics"])]

    @property
    def statistics(self) -> NDArray[np.float64]:
        """Statistics of the frames so far, (n, 4)."""
        return np.concatenate(self._rows) if self._rows else np.empty((0, 4))

    @property
    def frames(self) -> int:
        """Number of frames so far."""
        return sum(map(len, self._rows))

    def add(self, chunk: CorrectedChunk) -> None:
        """Take in corrected frames."""
        self.average.add_all(chunk.frames)
        self._rows.append(chunk.statistics)

    def state(self) -> dict[str, NDArray[Any]]:
        """Copy what is needed to go on later."""
        return {**self.average.state("average"), "statistics": self.statistics}


@dataclass(frozen=True)
class CorrectedRecording:
    """What a correction leaves besides its files.

    Parameters
    ----------
    reference : ndarray
        Image the frames were registered to, float64, (H, W, C).
    temporal_average : ndarray
        Mean of the corrected frames, float64, (H, W, C).
    statistics : ndarray
        Of every frame, see `CorrectedChunk`, float64, (T, 4).
    """

    reference: NDArray[np.float64]
    temporal_average: NDArray[np.float64]
    statistics: NDArray[np.float64]

    @property
    def n_frames(self) -> int:
        """Number of corrected frames."""
        return len(self.statistics)


class RecordingRun:
    """Corrects a recording and writes its frames, masks and fields.

    Parameters
    ----------
    reader : Reader
        The recording.
    options : OFOptions
        How to correct it.
    reference : ndarray or None
        Image to register to, instead of `options.reference_frames`.
    threads : int
        Frames computed at the same time.
    open_outputs : callable
        Makes the writers for frames of a shape (T, H, W, C) and type.
    checkpoint : Checkpoint, optional
        What to go on from, and where to save what a later run goes on from.
    before_publishing : callable
        Called when all frames are there; files appear unless it raises.
    """

    def __init__(
        self,
        reader: Reader,
        options: OFOptions,
        reference: NDArray[Any] | None,
        threads: int,
        open_outputs: Callable[[RecordingCorrection], Outputs],
        checkpoint: Checkpoint | None = None,
        before_publishing: Callable[[], None] = lambda: None,
    ) -> None:
        self._reader = reader
        self._options = options
        self._reference = reference
        self._threads = threads
        self._open_outputs = open_outputs
        self._checkpoint = checkpoint
        self._before_publishing = before_publishing

    def __call__(self) -> CorrectedRecording:
        """Do it, from where the run before was interrupted, if it was.

        Returns
        -------
        CorrectedRecording
            The same, as are all files, byte by byte, whether and wherever it was interrupted.
        """
        try:
            return self._run()
        except ResumeError as error:
            assert self._checkpoint is not None
            self._checkpoint.discard(str(error))
            return self._run()

    @property
    def _saved(self) -> Mapping[str, NDArray[Any]]:
        state = self._checkpoint.state if self._checkpoint is not None else None
        return state or {}

    def _run(self) -> CorrectedRecording:
        with Behind() as keeper:
            correction = self._prepared(keeper)
        outputs = self._open_outputs(correction)
        if "complete" in self._saved:
            with restoring():
                results = Results(self._saved)
                average = results.average.mean()
            self._publish(outputs)
            return CorrectedRecording(correction.reference, average, results.statistics)
        results = self._corrected(correction, outputs)
        return CorrectedRecording(correction.reference, results.average.mean(), results.statistics)

    def _publish(self, outputs: Outputs) -> None:
        assert self._checkpoint is not None
        paths = [path for writer in outputs.writers.values() for path in writer.paths]
        if not self._checkpoint.can_publish(paths):
            raise ResumeError("without the files it belongs to")
        self._checkpoint.publish(paths)

    def _prepared(self, keeper: Behind) -> RecordingCorrection:
        """Make the reference, from where that was interrupted, or restore it."""
        saved, checkpoint = self._saved, self._checkpoint
        if "next" in saved:
            correction = self._correction(state=saved)
            logger.info("Going on from frame %d of %d.", correction.next, correction.shape[0])
            return correction
        if checkpoint is None:
            return self._correction()

        def keep(progress: ReferenceProgress) -> None:
            if checkpoint.is_due and keeper.is_idle:
                keeper.submit(checkpoint.save, progress.state())

        with restoring():
            progress = ReferenceProgress(saved or None, keep)
        if progress.done:
            logger.info("Going on from frame %d of the reference.", progress.done)
        try:
            correction = self._correction(progress=progress)
        except STOPPED:
            if progress.done:
                with contextlib.suppress(*STOPPED):  # one more does not end the saving
                    uninterrupted(partial(keeper.submit, checkpoint.save, progress.state()))
            raise
        return correction

    def _correction(self, **how: Any) -> RecordingCorrection:
        return RecordingCorrection(
            self._reader, self._options, self._reference, self._threads, **how
        )

    def _corrected(self, correction: RecordingCorrection, outputs: Outputs) -> Results:
        checkpoint = self._checkpoint
        saved = self._saved if "next" in self._saved else None
        with restoring():
            results = Results(saved)
        writers = list(outputs.writers.values())
        if checkpoint is None:
            group = WriterGroup(writers)
        else:
            if saved is None:
                checkpoint.save({**correction.state(), **results.state()})
            elif correction.next:
                with restoring():
                    outputs.continue_from(saved)
                if results.frames != correction.next:
                    raise ResumeError("damaged: it counts frames in two ways")
            group = WriterGroup(
                writers,
                lambda paths: checkpoint.files(
                    paths, lambda: {**correction.state(), **results.state()}
                ),
            )
        name = self._options.input_file.name if self._options.input_file is not None else ""
        with group, Progress(name, correction.shape[0], correction.next) as progress:
            taker = _Taker(correction, outputs, results, checkpoint)
            with taker.saving_when_stopped(), Behind() as keeper, Behind() as behind:
                for chunk in correction.chunks():
                    taker.hand_over(chunk, behind, keeper)
                    compile_log.report()
                    progress.update(chunk.start + len(chunk.frames))
            self._before_publishing()
        return results


class _Taker:
    """Takes corrected frames in, and saves how far it is.

    Chunks are written in one thread and flushed to the disk in another, so that no frame waits.
    """

    def __init__(
        self,
        correction: RecordingCorrection,
        outputs: Outputs,
        results: Results,
        checkpoint: Checkpoint | None,
    ) -> None:
        self._correction = correction
        self._outputs = outputs
        self._results = results
        self._checkpoint = checkpoint

    def hand_over(self, chunk: CorrectedChunk, behind: Behind, keeper: Behind) -> None:
        """Let `behind` take a chunk in, and if it is time, `keeper` save what there is then."""
        state = None
        if self._checkpoint is not None and self._checkpoint.is_due and keeper.is_idle:
            state = self._correction.state()

        def work() -> None:
            self._take(chunk)
            if state is not None:
                keeper.submit(self._save, self._complete(state))

        behind.submit(work)

    def _take(self, chunk: CorrectedChunk) -> None:
        self._outputs.write(chunk)
        self._results.add(chunk)

    def _complete(self, state: State) -> State:
        """Add what the taker knows to the state of the correction at the same frame."""
        positions = self._outputs.positions(self._results.frames)
        return {**state, **self._results.state(), **positions}

    def _save(self, state: State) -> None:
        assert self._checkpoint is not None
        for writer in self._outputs.writers.values():
            writer.sync()
        self._checkpoint.save(state)

    @contextlib.contextmanager
    def saving_when_stopped(self) -> Iterator[None]:
        """Save once more when Ctrl-C or SIGTERM ends the block; its threads have ended by then."""
        try:
            yield
        except STOPPED:
            if self._checkpoint is not None:
                with contextlib.suppress(*STOPPED):  # one more does not end the saving
                    uninterrupted(self._save_at_last)
            raise

    def _save_at_last(self) -> None:
        latest = self._correction.latest
        if latest is not None and latest.start == self._results.frames:
            self._take(latest)
        if self._results.frames == self._correction.next:
            self._save(self._complete(self._correction.state()))
            logger.info("Stopped after frame %d; run it again.", self._results.frames)
