"""RAFT where torchvision imports: the flow is that of its own network, also through `pack`."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.optical_flow.flow_estimation import FlowUnavailableError, convert_frame, estimate_flow, flow_library
from datamodules.optical_flow.flow_levels import flow_levels
from datamodules.optical_flow.flow_video import read_flow
from datamodules.optical_flow.raft import RAFT_WEIGHTS, make_raft
from datamodules.video.decoding import decode_frames
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from tests.moving_textures import moving_texture, moving_video


@pytest.fixture
def library() -> Any:
    try:
        import torchvision.models.optical_flow as library
    except Exception as error:  # one built for another torch raises RuntimeError
        pytest.skip(f"torchvision does not import beside torch {torch.__version__}: {error}")
    return library


@pytest.fixture
def network(library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    """RAFT of random weights, which lie where torch's hub keeps the published ones."""
    torch.manual_seed(0)
    network = library.raft_large(weights=None).eval()
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / library.Raft_Large_Weights[RAFT_WEIGHTS].url.rpartition("/")[2])
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return network


def flow_of_library(
    library: Any, network: torch.nn.Module, frames: npt.NDArray[np.uint8], height: int, width: int
) -> npt.NDArray[np.float32]:
    """The library's own preprocessing and network, of frames that are extended to (height, width) beforehand."""
    rows, columns = height - frames.shape[1], width - frames.shape[2]
    extended = np.pad(frames, ((0, 0), (0, rows), (0, columns), (0, 0)), mode="edge")
    pair = torch.from_numpy(extended).permute(0, 3, 1, 2)
    first, second = library.Raft_Large_Weights[RAFT_WEIGHTS].transforms()(pair[:1], pair[1:])
    with torch.inference_mode():
        flow = network(first, second)[-1][0].permute(1, 2, 0).numpy()
    return flow[: frames.shape[1], : frames.shape[2]]


@pytest.mark.parametrize(("size", "extended"), [((128, 136), (128, 136)), ((70, 133), (128, 136))])
def test_the_flow_is_that_of_the_library(
    library: Any, network: torch.nn.Module, size: tuple[int, int], extended: tuple[int, int]
) -> None:
    colors = moving_texture((3, -1), 2, size=size)
    colors[..., 0] //= 2  # red, green and blue differ
    expected = flow_of_library(library, network, colors, *extended)
    flow = make_raft()(*colors)
    assert (flow.shape, flow.dtype) == ((*size, 2), np.float32)
    np.testing.assert_allclose(flow, expected, rtol=1e-4, atol=1e-4)
    assert np.array_equal(estimate_flow(*(convert_frame(frame, "raft") for frame in colors), "raft"), flow)
    assert (
        np.abs(
            make_raft()(*(frame.mean(2, keepdims=True).astype(np.uint8).repeat(3, 2) for frame in colors)) - flow
        ).max()
        > 0.01
    )


def test_packed_flow_is_that_of_the_stored_frames(network: torch.nn.Module, tmp_path: Path) -> None:
    (tmp_path / "right.mp4").write_bytes(moving_video((3, 0), 3))
    (tmp_path / "list.csv").write_text("path,label,split\nright.mp4,right,train\n")
    pack(PackOptions(tmp_path / "out", [tmp_path / "list.csv"], flow=True, flow_method="raft", processes=1))
    found = DatasetIndex.open(tmp_path / "out")
    assert (found.manifest.encode["flow"], list(found.manifest.versions)[-1]) == ("raft", "torchvision")
    stored = read_flow(found.read_flow(0), [0, 1]).astype(int)
    frames, estimate = decode_frames(found.read_video(0), [0, 1, 2], "auto"), make_raft()
    computed = np.stack([flow_levels(estimate(frames[step], frames[step + 1])) for step in (0, 1)]).astype(int)
    assert np.abs(stored - computed).mean() < 1  # of 255 levels


def test_weights_that_cannot_be_had_are_one_sentence(
    library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(OSError, match=r"RAFT's weights cannot be downloaded \(no network\): put https"):
        flow_library("raft")


def refuse(*arguments: Any, **keywords: Any) -> None:
    raise OSError("no network")


def test_without_torchvision_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models.optical_flow", None)
    with pytest.raises(FlowUnavailableError, match=r"RAFT needs torchvision.*or take the method dis"):
        flow_library("raft")
