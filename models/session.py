"""Open a model in ONNX Runtime and run batches through it; the only door to ``onnxruntime``.

Preprocessing is part of the graph: HU go in, logits come out. The digest of the graph is verified
before a session opens. A GPU that was asked for and is not there is replaced by the CPU, and the
reason is kept for the audit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from models.errors import (
    InferenceFailed,
    ManifestInvalid,
    ModelInputInvalid,
    ProviderUnavailable,
)
from models.lung_answers import LungAnswers, one_answer, two_answers
from models.manifest import InputUnit, Manifest, Task
from models.model_arrays import check_boxes, check_stack, sigmoid, softmax
from models.registry import ModelFolder, verify_model


class Provider(Enum):
    """Execution provider, as the settings name it."""

    CPU = "cpu"
    """Always there."""
    CUDA = "cuda"
    """An NVIDIA GPU; needs the ``gpu`` extra."""
    TENSORRT = "tensorrt"
    """An NVIDIA GPU through TensorRT; CUDA serves the nodes that TensorRT cannot."""


#: ONNX Runtime's names, best first.
_RUNTIME_NAMES: Mapping[Provider, tuple[str, ...]] = {
    Provider.CPU: ("CPUExecutionProvider",),
    Provider.CUDA: ("CUDAExecutionProvider", "CPUExecutionProvider"),
    Provider.TENSORRT: (
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ),
}
#: What ONNX Runtime raises; its exceptions have no common base below ``Exception``.
_RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    ValueError,
)
#: ONNX Runtime's log level for errors; its warnings concern node placement, not results.
_LOG_ERRORS_ONLY = 3


@dataclass(frozen=True, slots=True)
class OpenedProvider:
    """What was asked for, what runs, and why they differ (None when they do not)."""

    requested: Provider
    actual: Provider
    fallback_reason: str | None


class _OpenModel:
    """What every open model has: its manifest, its digest, and what runs it."""

    _task: ClassVar[Task]

    def __init__(self, folder: ModelFolder, *, provider: Provider, threads: int) -> None:
        self._open = _OpenGraph(folder, self._task, provider, threads)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the open model."""
        return self._open.manifest

    @property
    def provider(self) -> OpenedProvider:
        """What was asked for and what runs."""
        return self._open.provider

    @property
    def digest(self) -> str:
        """SHA-256 of the graph, hexadecimal."""
        return self._open.digest


class LungSegmenter(_OpenModel):
    """A lung segmentation graph that is open.

    Parameters
    ----------
    folder
        A model of task ``LUNG_SEGMENTATION``.
    provider
        Execution provider to try first.
    threads
        Threads inside one operator, at least 1.

    Raises
    ------
    ModelDigestMismatch
        A byte of the graph has changed.
    ManifestInvalid
        The manifest is of another task, or the graph's inputs and outputs are not those it names.
    ProviderUnavailable
        The graph does not open, not even on the CPU.
    """

    _task = Task.LUNG_SEGMENTATION

    def logits(self, images: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
        """Give one lung logit per pixel.

        Parameters
        ----------
        images
            Shape ``(batch, rows, columns)``, any size: HU as int16, not clipped, or grey values
            from 0 to 255 as float32, as the manifest's unit says.

        Returns
        -------
        :
            Same shape; lung where the logit is above that of the manifest's threshold.

        Raises
        ------
        ModelInputInvalid
            The array is no non-empty stack of the type that the unit asks for.
        """
        check_stack(images, self.manifest.unit)
        return self._open.run(self.manifest.outputs[0], {self.manifest.inputs[0]: images})

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn logits into probabilities, 0 to 1, at the manifest's temperature."""
        return sigmoid(logits / np.float32(self.manifest.calibration.temperature))

    def answers(self, images: NDArray[np.int16] | NDArray[np.float32]) -> LungAnswers:
        """Give the lungs of slices, and the same with solid lung where the model tells of it.

        Parameters and errors as ``logits``. :func:`models.lung_answers.choose_lungs` takes the
        answers of a whole volume.
        """
        if len(self.manifest.outputs) == 1:
            return one_answer(self.mask(self.logits(images)))
        check_stack(images, self.manifest.unit)
        feed = {self.manifest.inputs[0]: images}
        lung, with_solid, sums = self._open.run_all(self.manifest.outputs, feed)
        calibrated = with_solid / np.float32(self.manifest.calibration.temperature)
        return two_answers(self.mask(lung), calibrated, sums)

    def mask(self, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Apply the manifest's threshold, without going through probabilities."""
        threshold = self.manifest.operating_point.threshold
        cut = self.manifest.calibration.temperature * np.log(threshold / (1.0 - threshold))
        return np.asarray(logits > np.float32(cut))


class SliceClassifier(_OpenModel):
    """A slice classification graph that is open; parameters and errors as ``LungSegmenter``."""

    _task = Task.SLICE_CLASSIFICATION

    def logits(self, hu: NDArray[np.int16], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give one logit per class and slice.

        Parameters
        ----------
        hu
            HU, shape ``(batch, rows, columns)``; any size, not clipped.
        boxes
            Lung box of each slice, shape ``(batch, 4)``: row0, column0, row1, column1, edges in
            pixels, upper edges exclusive, so that ``hu[n, row0:row1, column0:column1]`` is the box.

        Returns
        -------
        :
            Shape ``(batch, n_classes)``, classes in the manifest's order.

        Raises
        ------
        ModelInputInvalid
            Wrong shape or type, or a box without area.
        """
        return self._open.run(self.manifest.outputs[0], self._feed(hu, boxes))

    def predict(
        self, hu: NDArray[np.int16], boxes: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Give class logits and lesion probabilities in one pass.

        Parameters and errors as ``logits``.

        Returns
        -------
        logits
            Shape ``(batch, n_classes)``.
        lesions
            Shape ``(batch, map_rows, map_columns)``, 0 to 1; each map spans exactly its box. None
            where the model gives no map.
        """
        outputs = self.manifest.outputs[:2]
        logits, *maps = self._open.run_all(outputs, self._feed(hu, boxes))
        if not maps:
            return logits, None
        return logits, sigmoid(maps[0])

    def lesion_logits(
        self, hu: NDArray[np.int16], boxes: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Give the coarse map of lesion logits inside each box.

        Parameters and errors as ``logits``.

        Returns
        -------
        :
            Shape ``(batch, map_rows, map_columns)``; the map spans exactly the box.
        """
        if len(self.manifest.outputs) < 2:  # noqa: PLR2004  the map is the second output
            raise ModelInputInvalid(
                f"model {self.manifest.name} gives no lesion map; use one whose manifest lists it"
            )
        return self._open.run(self.manifest.outputs[1], self._feed(hu, boxes))

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn logits ``(batch, n_classes)`` into probabilities that sum to 1 in each row."""
        return softmax(logits, self.manifest.calibration.temperature)

    def _feed(self, hu: NDArray[np.int16], boxes: NDArray[np.float32]) -> dict[str, Any]:
        check_stack(hu, InputUnit.HU)
        check_boxes(boxes, n_slices=hu.shape[0])
        return dict(zip(self.manifest.inputs, (hu, boxes), strict=True))


class ImageClassifier(_OpenModel):
    """An image classification graph that is open; parameters and errors as ``LungSegmenter``.

    Preprocessing, the search for the lungs where there is one included, is part of the graph: any
    grey picture goes in as it is.
    """

    _task = Task.IMAGE_CLASSIFICATION

    def logits(self, grey: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give one logit per class and image.

        Parameters
        ----------
        grey
            Grey values from 0 to 255, shape ``(batch, rows, columns)``; any size.

        Returns
        -------
        :
            Shape ``(batch, n_classes)``, classes in the manifest's order.

        Raises
        ------
        ModelInputInvalid
            The array is no non-empty float32 stack.
        """
        check_stack(grey, InputUnit.GREY)
        return self._open.run(self.manifest.outputs[0], {self.manifest.inputs[0]: grey})

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn logits ``(batch, n_classes)`` into probabilities that sum to 1 in each row."""
        return softmax(logits, self.manifest.calibration.temperature)


class _OpenGraph:
    """A verified graph in a session, with the provider that it got."""

    __slots__ = ("_session", "digest", "manifest", "provider")

    def __init__(self, folder: ModelFolder, task: Task, provider: Provider, threads: int) -> None:
        self.manifest = folder.manifest
        if self.manifest.task is not task:
            raise ManifestInvalid(
                f"model {self.manifest.name} is for {self.manifest.task.value}, not for "
                f"{task.value}; correct the setting that names it"
            )
        self.digest = verify_model(folder)
        self._session, self.provider = _open_session(folder, provider, threads)
        _check_names(self._session, self.manifest)

    def run(self, output: str, feed: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Run one batch and give one output."""
        (result,) = self.run_all((output,), feed)
        return result

    def run_all(
        self, outputs: Sequence[str], feed: Mapping[str, NDArray[Any]]
    ) -> list[NDArray[np.float32]]:
        """Run one batch and give several outputs, in their order."""
        try:
            results = self._session.run(list(outputs), dict(feed))
        except _RUNTIME_ERRORS as error:
            shapes = ", ".join(f"{name} {array.shape}" for name, array in feed.items())
            raise InferenceFailed(
                f"model {self.manifest.name} failed on {self.provider.actual.value} with {shapes} "
                f"({error}); try a smaller batch or the cpu provider"
            ) from error
        return [np.asarray(result, dtype=np.float32) for result in results]


def run_graph(
    graph: bytes, feed: Mapping[str, NDArray[Any]], outputs: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Run a graph once on the CPU and give some of its outputs, as they are, for measuring.

    Raises
    ------
    InferenceFailed
        The graph does not open, or fails on the feed.
    """
    options = ort.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    try:
        session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        results = session.run(list(outputs), dict(feed))
    except _RUNTIME_ERRORS as error:
        raise InferenceFailed(f"the graph cannot be measured ({error}); export it again") from error
    return dict(zip(outputs, results, strict=True))


def _open_session(
    folder: ModelFolder, provider: Provider, threads: int
) -> tuple[ort.InferenceSession, OpenedProvider]:
    """Open the graph on the provider that was asked for, else on the CPU with the reason."""
    if threads < 1:
        raise ModelInputInvalid(f"threads = {threads}: must be at least 1; correct the setting")
    first = _RUNTIME_NAMES[provider][0]
    if first not in ort.get_available_providers():
        reason = f"{first} is not in this build of ONNX Runtime; install the gpu extra"
        return _create(folder, Provider.CPU, threads), OpenedProvider(
            provider, Provider.CPU, reason
        )
    try:
        session = _create(folder, provider, threads)
    except ProviderUnavailable as error:
        if provider is Provider.CPU:
            raise
        session = _create(folder, Provider.CPU, threads)
        return session, OpenedProvider(provider, Provider.CPU, str(error))
    actual = _actual_provider(session)
    if actual is provider:
        return session, OpenedProvider(provider, actual, None)
    return session, OpenedProvider(
        provider, actual, f"{first} could not be initialised; see the log of ONNX Runtime"
    )


def _create(folder: ModelFolder, provider: Provider, threads: int) -> ort.InferenceSession:
    """Create a session; translate ONNX Runtime's errors at this door."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    # Idle threads that spin take the cores from decoding, which runs beside inference.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = ort.get_available_providers()
    names = [name for name in _RUNTIME_NAMES[provider] if name in available]
    if provider is not Provider.CPU:
        ort.preload_dlls()  # CUDA and cuDNN as Python packages, which no loader would find
    try:
        return ort.InferenceSession(str(folder.graph), options, providers=names)
    except _RUNTIME_ERRORS as error:
        raise ProviderUnavailable(
            f"{folder.graph} does not open on {provider.value} ({error}); "
            "check the driver or choose another provider"
        ) from error


def _actual_provider(session: ort.InferenceSession) -> Provider:
    """Tell which provider comes first in the session that was opened."""
    first = session.get_providers()[0]
    return next(provider for provider, names in _RUNTIME_NAMES.items() if names[0] == first)


def _check_names(session: ort.InferenceSession, manifest: Manifest) -> None:
    """Refuse a graph whose inputs and outputs are not the manifest's, in order."""
    inputs = tuple(one.name for one in session.get_inputs())
    outputs = tuple(one.name for one in session.get_outputs())
    if (inputs, outputs) != (manifest.inputs, manifest.outputs):
        raise ManifestInvalid(
            f"model {manifest.name}: the graph has inputs {inputs} and outputs {outputs}, the "
            f"manifest says {manifest.inputs} and {manifest.outputs}; export it again"
        )
