"""Estimation of optical flow with OpenCV, on one thread: DIS, or TV-L1 where its contributed modules are installed.

DIS: Kroeger, Timofte, Dai, Van Gool: "Fast Optical Flow using Dense Inverse Search", ECCV 2016, in OpenCV's preset
`medium`, which is a hundred times faster than TV-L1. TV-L1: Zach, Pock, Bischof: "A Duality Based Approach for Realtime
TV-L1 Optical Flow", DAGM 2007, with OpenCV's own settings, the method that I3D's flow was computed with.
"""

import threading
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

FlowMethod = Literal["dis", "tvl1"]
Gray = npt.NDArray[np.uint8]
_INSTALL = "pip install 'action-recognition-pipeline[flow]' (opencv-contrib-python-headless)"
_kept = threading.local()
_MIN_SIDE = 16  # pixels; DIS matches patches of 8 x 8 in a pyramid


class FlowUnavailableError(ImportError):
    """OpenCV, or the part of it that computes this flow, is not installed."""


def flow_method_version(method: FlowMethod) -> str:
    """Version of OpenCV, which computes the flow.

    Raises:
        FlowUnavailableError: OpenCV does not import, or lacks the method.
    """
    return str(_import_opencv(method).__version__)


def estimate_flow(first: Gray, second: Gray, method: FlowMethod) -> npt.NDArray[np.float32]:
    """Estimates how far each pixel of a frame moves until the next frame.

    Args:
        first: uint8 (H, W), in gray.
        second: uint8 (H, W), the next frame.
        method: `dis` or `tvl1`.

    Returns:
        float32 (H, W, 2): pixels to the right (x) and down (y); none where a side is too short to match patches.

    Raises:
        FlowUnavailableError: OpenCV does not import, or lacks the method.
    """
    estimate = _estimator(method)
    if min(first.shape) < _MIN_SIDE:
        return np.zeros((*first.shape, 2), np.float32)
    return estimate(first, second)


def to_gray(frame: Gray) -> Gray:
    """A frame in gray: uint8 (H, W, 3), RGB, to uint8 (H, W)."""
    opencv = _import_opencv("dis")
    return np.asarray(opencv.cvtColor(frame, opencv.COLOR_RGB2GRAY))


def resize_frame(frame: Gray, size: tuple[int, int]) -> Gray:
    """A frame, uint8 (H, W, 3), in another (width, height), averaged over areas as `pack` scales videos."""
    opencv = _import_opencv("dis")
    return np.asarray(opencv.resize(frame, size, interpolation=opencv.INTER_AREA))


def _estimator(method: FlowMethod) -> Callable[[Gray, Gray], npt.NDArray[np.float32]]:
    """This thread's estimator: OpenCV's have buffers of their own, which two threads would overwrite."""
    kept: dict[str, Callable[[Gray, Gray], npt.NDArray[np.float32]]] = _kept.__dict__.setdefault("estimators", {})
    if method not in kept:
        kept[method] = _make_estimator(method)
    return kept[method]


def _make_estimator(method: FlowMethod) -> Callable[[Gray, Gray], npt.NDArray[np.float32]]:
    opencv = _import_opencv(method)
    opencv.setNumThreads(1)  # processes are the parallelism, and sums keep their order
    if method == "dis":
        dis = opencv.DISOpticalFlow_create(opencv.DISOPTICAL_FLOW_PRESET_MEDIUM)
    else:
        dis = opencv.optflow.DualTVL1OpticalFlow_create()
    # Without an initial flow, each pair of frames is estimated alone, whatever came before it.
    return lambda first, second: np.asarray(dis.calc(first, second, None), np.float32)


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
