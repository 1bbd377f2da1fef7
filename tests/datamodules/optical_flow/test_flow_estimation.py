"""Estimated flow is the motion that a texture really has: right is positive x, down is positive y."""

import builtins
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from datamodules.optical_flow import flow_estimation
from datamodules.optical_flow.flow_estimation import FlowMethod, FlowUnavailableError, estimate_flow
from tests.moving_textures import moving_texture

MARGIN = 12  # pixels at the border, where what moves in was not there before


@pytest.mark.parametrize("motion", [(3, 0), (-3, 0), (0, 2), (0, -2), (5, -4), (10, 3)])
def test_dis_measures_a_known_motion(motion: tuple[int, int]) -> None:
    first, second = moving_texture(motion, 2)[..., 0]
    flow = estimate_flow(first, second, "dis")
    assert (flow.shape, flow.dtype) == ((64, 96, 2), np.float32)
    inner = flow[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert np.hypot(*(inner - np.float32(motion)).transpose(2, 0, 1)).mean() < 0.05


def test_tvl1_measures_a_known_motion() -> None:
    first, second = moving_texture((2, -1), 2, size=(48, 64))[..., 0]
    inner = estimate_flow(first, second, "tvl1")[MARGIN:-MARGIN, MARGIN:-MARGIN]
    assert np.abs(inner - np.float32((2, -1))).mean() < 0.05


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_a_pair_is_estimated_alone(method: FlowMethod) -> None:
    gray = moving_texture((3, 1), 3, size=(32, 48))[..., 0]
    alone = estimate_flow(gray[0], gray[1], method)
    estimate_flow(gray[2], gray[0], method)
    assert np.array_equal(estimate_flow(gray[0], gray[1], method), alone)


def test_threads_do_not_disturb_each_other() -> None:
    pairs = [moving_texture((step, 1), 2, size=(96, 128), seed=step + 4)[..., 0] for step in range(-4, 5)] * 4
    alone = [estimate_flow(first, second, "dis") for first, second in pairs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: estimate_flow(pair[0], pair[1], "dis"), pairs))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_frames_too_small_to_match_have_no_motion() -> None:
    assert not estimate_flow(np.zeros((8, 40), np.uint8), np.ones((8, 40), np.uint8), "dis").any()


def test_without_opencv_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def refuse_opencv(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name == "cv2":
            raise ImportError("No module named 'cv2'")
        return original(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", refuse_opencv)
    with pytest.raises(FlowUnavailableError, match=r"needs OpenCV.*pip install 'action-recognition-pipeline\[flow\]'"):
        flow_estimation.flow_library("dis")


def test_an_opencv_without_contributed_modules_has_no_tvl1(monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    monkeypatch.delattr(cv2.optflow, "DualTVL1OpticalFlow_create")
    assert flow_estimation.flow_library("dis") == {"opencv": cv2.__version__}
    with pytest.raises(FlowUnavailableError, match=r"TV-L1 needs OpenCV's contributed modules.*or take the method dis"):
        flow_estimation.flow_library("tvl1")
