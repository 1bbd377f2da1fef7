"""Estimation of optical flow with RAFT: torchvision's network and weights, on a GPU where there is one.

Teed and Deng: "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020. The weights are those that
torchvision trained as the paper did for Sintel (FlyingChairs, FlyingThings3D, then Sintel, KITTI and HD1K). On a CPU a
pair of frames takes half a second. Written for torchvision 0.28, which imports beside a torch with CUDA alone.
"""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

RAFT_WEIGHTS = "C_T_SKHT_V2"  # torchvision's default for `raft_large`
_MIN_SIDE, _STRIDE = 128, 8  # pixels: the smallest side that the network takes, and what divides all its sides


def torchvision_version() -> str:
    """Version of torchvision, whose weights of RAFT are then in torch's cache.

    Raises:
        ImportError: it does not import, with the reason.
        OSError: the weights cannot be downloaded.
    """
    library = _import_torchvision()
    _read_weights(library.models.optical_flow)  # once, before processes need them
    return str(library.__version__)


def make_raft() -> Callable[[npt.NDArray[np.uint8], npt.NDArray[np.uint8]], npt.NDArray[np.float32]]:
    """Loads the network with its weights.

    Returns:
        A function of two consecutive frames, each uint8 (H, W, 3), RGB, that returns their flow, float32 (H, W, 2):
        pixels to the right (x) and down (y).

    Raises:
        ImportError: torchvision does not import.
        OSError: the weights cannot be downloaded.
    """
    library = _import_torchvision().models.optical_flow
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = library.raft_large(weights=None)
    network.load_state_dict(_read_weights(library))
    network.eval().to(device)

    def estimate(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        height, width, _ = first.shape
        pair = _network_input(np.stack([first, second])).to(device)
        with torch.inference_mode():
            flow = network(pair[:1], pair[1:])[-1]  # after the last update
        return np.ascontiguousarray(flow[0, :, :height, :width].permute(1, 2, 0).float().cpu().numpy())

    return estimate


def _network_input(frames: npt.NDArray[np.uint8]) -> Tensor:
    """Frames, uint8 (2, H, W, 3), as the network takes them: float32 (2, 3, H', W') in [-1, 1].

    Sides are extended to the right and down by the last column and row: to multiples of 8, and to 128 at least.
    """
    values = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    extended = [max(_MIN_SIDE, -(-side // _STRIDE) * _STRIDE) for side in values.shape[2:]]
    return F.pad(values, (0, extended[1] - values.shape[3], 0, extended[0] - values.shape[2]), mode="replicate")


def _read_weights(library: Any) -> dict[str, Tensor]:
    weights = library.Raft_Large_Weights[RAFT_WEIGHTS]
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except OSError as error:
        raise OSError(
            f"RAFT's weights cannot be downloaded ({error}): put {weights.url} into "
            f"{torch.hub.get_dir()}/checkpoints, or take the method dis"
        ) from error
    return state


def _import_torchvision() -> Any:
    try:
        importlib.import_module("torchvision.models.optical_flow")
        return importlib.import_module("torchvision")
    except Exception as error:  # one built for another torch raises RuntimeError
        raise ImportError(str(error)) from error
