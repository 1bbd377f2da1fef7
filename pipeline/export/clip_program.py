"""The part of a classifier that becomes a program: from uint8 clips to probabilities."""

import math

import torch
from torch import Tensor, nn

from datamodules.batch import ClipBatch
from lightning_modules import VideoClassifier, VideoNetwork
from pipeline.classify.linear_head import LinearHead
from pipeline.exported_models.model_folder import ProgramPrecision
from pipeline.features.layer_features import pool_features
from pipeline.linear.feature_classifier import FeatureClassifier

_SMALLEST_LENGTH = 1e-12  # of a row of features before the division by it, as in `normalize_l2`


class ClipProgram(nn.Module):
    """Probabilities and logits of clips: normalization, network, and softmax or sigmoid.

    Args:
        network: the network, in evaluation mode.
    """

    def __init__(self, network: VideoClassifier) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips uint8 (N, T, H, W, C) to probabilities and logits, float32 (N, K)."""
        logits = self.network.clip_logits(_normalized(self.network, clips)).float()
        return self.network.probabilities(logits), logits


class LinearProgram(nn.Module):
    """Probabilities of clips by a linear classifier, each clip as a video of its own, and the features.

    Args:
        network: the network that computes the features.
        head: the linear classifier on it.
    """

    def __init__(self, network: VideoNetwork, head: LinearHead) -> None:
        super().__init__()
        self.network = network
        self._layers, self._pooling = head.layers, head.pooling
        self._head: FeatureClassifier = head.classifier
        self.register_buffer("weight", torch.from_numpy(self._head.classifier.weight))
        self.register_buffer("bias", torch.from_numpy(self._head.classifier.bias))

    weight: Tensor
    bias: Tensor

    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips uint8 (N, T, H, W, C) to probabilities (N, K) and features (N, D), float32."""
        outputs = self.network.endpoints(_normalized(self.network, clips), self._layers)
        pooled = [pool_features(outputs[name], self._pooling).flatten(1).float() for name in self._layers]
        features = torch.cat(pooled, dim=1)
        scores = torch.addmm(self.bias, self._normalize_features(features), self.weight.T)
        return self._head.classifier.probabilities(scores), features

    def _normalize_features(self, features: Tensor) -> Tensor:
        """As `FeatureNormalization.apply`, of tensors."""
        normalization = self._head.normalization
        if normalization.kind == "signed_sqrt":
            features = features.sign() * features.abs().sqrt()
        blocks = torch.split(features, list(normalization.block_sizes), dim=1)
        lengths = [block.square().sum(dim=1, keepdim=True).sqrt().clamp_min(_SMALLEST_LENGTH) for block in blocks]
        divided = [block / length for block, length in zip(blocks, lengths, strict=True)]
        return torch.cat(divided, dim=1) / math.sqrt(len(blocks))


def _normalized(network: VideoNetwork, clips: Tensor) -> Tensor:
    """Clips uint8 (N, T, H, W, C), normalized in float32, in the precision of the network: (N, C, T, H, W)."""
    nothing = clips.new_empty(0)
    x = network.normalize(ClipBatch(clips, nothing, nothing, [], nothing, nothing))
    precision = next((parameter.dtype for parameter in network.parameters()), torch.float32)
    return x.to(precision)


def set_precision(network: VideoNetwork, precision: ProgramPrecision) -> None:
    """Converts a network in place to compute in a precision; clips are normalized in float32 whichever it is."""
    if precision == "float16":
        mean, std = network.mean.clone(), network.std.clone()
        network.half()
        network.mean, network.std = mean, std
