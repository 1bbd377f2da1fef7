"""Estimation of optical flow: DIS or TV-L1 with OpenCV, on one thread; or RAFT, for a GPU, where torchvision imports.

DIS: Kroeger, Timofte, Dai, Van Gool: "Fast Optical Flow using Dense Inverse Search", ECCV 2016, in OpenCV's preset
`medium`, which is a hundred times faster than TV-L1. TV-L1: Zach, Pock, Bischof: "A Duality Based Approach for Realtime
TV-L1 Optical Flow", DAGM 2007, with OpenCV's own settings, the method that I3D's flow was computed with.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FlowMethod = Literal["dis", "tvl1", "raft"]
Frame = npt.NDArray[np.uint8]  # (H, W) in gray, or (H, W, 3) in RGB
FRAME_FORMATS: dict[FlowMethod, Literal["gray", "rgb24"]] = {"dis": "gray", "tvl1": "gray", "raft": "rgb24"}
_INSTALL = "pip install 'action-recognition-pipeline[flow]' (opencv-contrib-python-headless)"
_kept = threading.local()
_MIN_SIDE = 16  # pixels; DIS matches patches of 8 x 8 in a pyramid


class FlowUnavailableError(ImportError):
    """The library that computes this flow, or the part of it that does, cannot be imported."""


def flow_library(method: FlowMethod) -> dict[str, str]:
    """The library that computes the flow, and its version; the weights of RAFT are downloaded, if they are not there.

    Raises:
        FlowUnavailableError: it does not import, or lacks the method.
        OSError: the weights cannot be downloaded.
    """
    if method != "raft":
        return {"opencv": str(_import_opencv(method).__version__)}
    with _plain_import_error():
        from datamodules.optical_flow.raft import torchvision_version

        return {"torchvision": torchvision_version()}


def estimate_flow(first: Frame, second: Frame, method: FlowMethod) -> npt.NDArray[np.float32]:
    """Estimates how far each pixel of a frame moves until the next frame.

    Args:
        first: uint8, (H, W) in gray or (H, W, 3) in RGB, as the method's `FRAME_FORMATS` says.
        second: the next frame, of the same shape.
        method: how it is estimated.

    Returns:
        float32 (H, W, 2): pixels to the right (x) and down (y); none where a side is too short to match patches.

    Raises:
        FlowUnavailableError: the library does not import, or lacks the method.
        OSError: the weights of RAFT cannot be downloaded.
    """
    estimate = _estimator(method)
    if min(first.shape[:2]) < _MIN_SIDE:
        return np.zeros((*first.shape[:2], 2), np.float32)
    return estimate(first, second)


def convert_frame(frame: Frame, method: FlowMethod) -> Frame:
    """A frame as a method takes it: uint8 (H, W, 3), RGB, to uint8 (H, W), gray, or as it is."""
    if FRAME_FORMATS[method] == "rgb24":
        return frame
    opencv = _import_opencv("dis")
    return np.asarray(opencv.cvtColor(frame, opencv.COLOR_RGB2GRAY))


def resize_frame(frame: Frame, size: tuple[int, int]) -> Frame:
    """A frame, uint8 (H, W, 3), in another (width, height), averaged over areas as `pack` scales videos."""
    opencv = _import_opencv("dis")
    return np.asarray(opencv.resize(frame, size, interpolation=opencv.INTER_AREA))


def _estimator(method: FlowMethod) -> Callable[[Frame, Frame], npt.NDArray[np.float32]]:
    """This thread's estimator: OpenCV's have buffers of their own, which two threads would overwrite."""
    kept: dict[str, Callable[[Frame, Frame], npt.NDArray[np.float32]]] = _kept.__dict__.setdefault("estimators", {})
    if method not in kept:
        kept[method] = _make_estimator(method)
    return kept[method]


def _make_estimator(method: FlowMethod) -> Callable[[Frame, Frame], npt.NDArray[np.float32]]:
    if method == "raft":
        with _plain_import_error():
            from datamodules.optical_flow.raft import make_raft

            return make_raft()
    opencv = _import_opencv(method)
    opencv.setNumThreads(1)  # processes are the parallelism, and sums keep their order
    if method == "dis":
        estimator = opencv.DISOpticalFlow_create(opencv.DISOPTICAL_FLOW_PRESET_MEDIUM)
    else:
        estimator = opencv.optflow.DualTVL1OpticalFlow_create()
    # Without an initial flow, each pair of frames is estimated alone, whatever came before it.
    return lambda first, second: np.asarray(estimator.calc(first, second, None), np.float32)


@contextmanager
def _plain_import_error() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise FlowUnavailableError(
            f"RAFT needs torchvision, which does not import beside this torch ({error}): install torch with CUDA "
            f"and the torchvision of the same release, or take the method dis"
        ) from None


def _import_opencv(method: FlowMethod) -> Any:
    try:
        import cv2
    except ImportError as error:
        raise FlowUnavailableError(f"optical flow needs OpenCV, which does not import ({error}): {_INSTALL}") from None
    if method == "tvl1" and not hasattr(getattr(cv2, "optflow", None), "DualTVL1OpticalFlow_create"):
        raise FlowUnavailableError(
            f"TV-L1 needs OpenCV's contributed modules, and this OpenCV {cv2.__version__} has none: pip uninstall the "
            f"other OpenCV packages, then {_INSTALL}; or take the method dis"
        )
    return cv2
