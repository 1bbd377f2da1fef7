"""CNN+LSTM: a 2D network a frame, then recurrence.

After LRCN: Donahue, Hendricks, Rohrbach, Venugopalan, Guadarrama, Saenko, Darrell: "Long-term Recurrent Convolutional
Networks for Visual Recognition and Description", CVPR 2015, section 4.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lightning_modules.classifier import VideoClassifier
from lightning_modules.recurrent import Cell, Readout, Recurrence


class CNNLSTM(VideoClassifier):
    """A small 2D convolutional network reads every frame; a recurrent network reads its features in order.

    Endpoints: frames (N, T, D), the 2D network's features of every frame; hidden (N, T, H), the recurrent state after
    every frame; state (N, H), the clip's vector; logits (N, K).

    Args:
        channels: filters of the 2D network's blocks, each of half the height and width of the one before; D is 16 times
            the last.
        hidden_size: of the recurrent layers. LRCN takes 256 for RGB (section 4).
        cell: `rnn`, `lstm` or `gru`.
        num_layers: stacked recurrent layers.
        bidirectional: also read the clip backward.
        readout: `last` state (many-to-one) or `mean` over frames (many-to-many: LRCN's average of the predictions).
        dropout: before the classifier. LRCN takes 0.9 after the LSTM.
        frames_at_once: frames that the 2D network takes in one pass, which bounds memory; default: all.
        **kwargs: of `VideoClassifier`.
    """

    feature_layer = "state"

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128, 256),
        hidden_size: int = 256,
        cell: Cell = "lstm",
        num_layers: int = 1,
        bidirectional: bool = False,
        readout: Literal["last", "mean"] = "mean",
        dropout: float = 0.5,
        frames_at_once: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        encoder = SmallCNN(channels)
        recurrence = Recurrence(encoder.output_size, hidden_size, cell, num_layers, bidirectional)
        self.stages = nn.Sequential()
        self.stages.add_module("frames", PerFrame(encoder, frames_at_once))
        self.stages.add_module("hidden", recurrence)
        self.stages.add_module("state", Readout(readout, bidirectional))
        head = nn.Sequential(nn.Dropout(dropout), nn.Linear(recurrence.output_size, self.num_classes))
        self.stages.add_module("logits", head)


class SmallCNN(nn.Module):
    """Blocks of convolution, batch norm and rectifier with stride 2, averaged over a grid: (M, 3, H, W) to (M, D).

    A grid, not the whole frame: a mean over all places would hide where things are, and with that their motion.
    D is the last block's filters times `grid` squared.

    Args:
        channels: filters of the blocks.
        grid: cells in height and in width.
    """

    def __init__(self, channels: Sequence[int], grid: int = 4) -> None:
        super().__init__()
        if not channels:
            raise ValueError("channels=[]: give at least one block")
        blocks: list[nn.Module] = []
        for inputs, outputs in zip((3, *channels), channels, strict=False):
            blocks += [
                nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        self.blocks = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(grid), nn.Flatten())
        self.output_size = channels[-1] * grid**2

    def forward(self, frames: Tensor) -> Tensor:
        """Frames (M, 3, H, W) to features (M, D)."""
        features: Tensor = self.blocks(frames)
        return features


class PerFrame(nn.Module):
    """Runs a 2D network on every frame of clips: (N, C, T, H, W) to (N, T, D).

    Args:
        network: (M, C, H, W) to (M, D).
        frames_at_once: bound on M; default: N * T.
    """

    def __init__(self, network: nn.Module, frames_at_once: int | None = None) -> None:
        super().__init__()
        if frames_at_once is not None and frames_at_once < 1:
            raise ValueError(f"frames_at_once={frames_at_once}: must be at least 1")
        self.network = network
        self.frames_at_once = frames_at_once

    def forward(self, clips: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) to frame features (N, T, D)."""
        num_clips, num_frames = clips.shape[0], clips.shape[2]
        frames = clips.transpose(1, 2).flatten(0, 1)
        features = [self.network(chunk) for chunk in torch.split(frames, self.frames_at_once or len(frames))]
        return torch.cat(features).view(num_clips, num_frames, -1)
