"""`ClassificationLoss`: cross entropy with label smoothing, class weights and focusing on hard examples."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.tasks.label_task import one_hot

ClassWeights = Literal["none", "balanced"]


class ClassificationLoss(nn.Module):
    """Loss of the logits of clips, for clips with one class or with any number of classes.

    With p = softmax(logits), targets q (one-hot, or mixed by MixUp, then smoothed), class weights w and gamma:

        single label:  sum over k of  w_k q_k (1 - p_k)^gamma (-log p_k)
        multi-label:   mean over k of  w_k q_k (1 - p_k)^gamma (-log p_k) + (1 - q_k) p_k^gamma (-log(1 - p_k))

    where p = sigmoid(logits) in the multi-label form. It is linear in the targets: the loss of a mixed clip is that of
    both labels, by share. With gamma > 0 it is the focal loss (Lin et al. 2017, "Focal Loss for Dense Object
    Detection", sections 3.1 and 3.2; with class weights its alpha-balanced form), otherwise the (weighted) cross
    entropy. The mean over the clips is not divided by their weights, as torch's is for class indices: balanced weights
    average 1 over the training videos, and clips count alike whichever rank or accumulated batch they are in.

    Args:
        label_smoothing: fraction of the target spread over all classes, in [0, 1); in the multi-label form, targets
            are moved by it towards 1/2.
        focal_gamma: gamma, at least 0; 0 does not focus.
        multi_label: whether a clip has any number of classes.

    Attributes:
        weights: float32 (K,), the class weights w; None for 1.

    Raises:
        ValueError: an argument is out of range.
    """

    weights: Tensor | None

    def __init__(self, label_smoothing: float = 0.0, focal_gamma: float = 0.0, multi_label: bool = False) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be in [0, 1)")
        if focal_gamma < 0:
            raise ValueError(f"focal_gamma={focal_gamma}: must be at least 0; 0 is the plain cross entropy")
        self.label_smoothing = label_smoothing
        self.focal_gamma = focal_gamma
        self.multi_label = multi_label
        self.register_buffer("weights", None, persistent=False)  # follows from the network's arguments

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of clips, a scalar.

        Args:
            logits: float (N, K).
            targets: class indices int64 (N,), or the target of each class, float (N, K) in [0, 1].
        """
        if not self.multi_label and self.weights is None and self.focal_gamma == 0:
            return F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        return self._losses(logits, targets).mean()

    def of_known(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of the frames that have a label, a scalar; 0 if none has. Nothing waits for the device.

        Args:
            logits: float (M, K), of frames.
            targets: as in `forward`; -1, or a row of -1, for a frame that does not count.
        """
        known = (targets if targets.ndim == 1 else targets[:, 0]) >= 0
        losses = self._losses(logits, targets.clamp_min(0))
        return (losses * known).sum() / known.sum().clamp(min=1)

    def _losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of each clip, (N,)."""
        if self.multi_label:
            return self._binary(logits.float(), targets.float()).mean(dim=1)
        num_classes = logits.shape[1]
        soft = targets.float() if targets.ndim == 2 else one_hot(targets, num_classes)
        soft = soft * (1 - self.label_smoothing) + self.label_smoothing / num_classes
        log_p = logits.float().log_softmax(dim=1)
        losses = -soft * log_p
        if self.weights is not None:
            losses = losses * self.weights
        if self.focal_gamma > 0:
            # Bounded away from 0, where a power below 1 has an infinite derivative.
            losses = losses * (-torch.expm1(log_p)).clamp_min(torch.finfo(log_p.dtype).eps) ** self.focal_gamma
        return losses.sum(dim=1)

    def _binary(self, logits: Tensor, targets: Tensor) -> Tensor:
        targets = targets * (1 - self.label_smoothing) + self.label_smoothing / 2
        log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
        positive, negative = -targets * log_p, -(1 - targets) * log_not_p
        if self.weights is not None:
            positive = positive * self.weights
        if self.focal_gamma > 0:
            positive = positive * torch.exp(self.focal_gamma * log_not_p)
            negative = negative * torch.exp(self.focal_gamma * log_p)
        return positive + negative


def balanced_class_weights(frequencies: Sequence[float], multi_label: bool = False) -> Tensor:
    """Class weights that make up for unequal frequencies: float32 (K,).

    Single label: n / (K n_c), the rule of scikit-learn's `class_weight="balanced"`, where K counts the classes with
    videos; they average 1 over the videos. Multi-label: negative divided by positive videos, as `pos_weight` of
    `torch.nn.BCEWithLogitsLoss` is meant to be. Classes without a video, or with all of them, have weight 1.

    Args:
        frequencies: fraction of the training videos in each of K classes, in [0, 1].
        multi_label: whether a video has any number of classes.
    """
    f = torch.tensor(frequencies, dtype=torch.float64)
    present = (f > 0) & ((f < 1) if multi_label else True)
    ideal = (1 - f) / f if multi_label else f.sum() / (f.count_nonzero() * f)
    return torch.where(present, ideal, 1.0).float()
