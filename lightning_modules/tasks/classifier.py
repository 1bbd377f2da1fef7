"""`VideoClassifier`: how every classifier here learns and is judged."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric

from datamodules.batch import ClipBatch
from lightning_modules.tasks.metrics import classification_metrics
from lightning_modules.tasks.mixup_cutmix import MixUpCutMix, draw_mix
from lightning_modules.tasks.video_network import VideoNetwork


class VideoClassifier(VideoNetwork):
    """A network of named stages over clips, and everything around it.

    uint8 clips to the device ─▶ `normalize` ─▶ stages, each a named feature ─▶ logits a clip ─▶ softmax ─▶ mean over a
    video's views ─▶ scores. A subclass sets `self.stages`, an `nn.Sequential` whose children's names are the endpoints
    and whose last child gives the logits, and takes plain arguments, so that `--help` lists them and a checkpoint holds
    nothing but plain data.

    Args:
        label_smoothing: share of the target spread over all classes, in [0, 1).
        mixup_alpha: in training, blend clips in pairs, with shares from Beta(alpha, alpha) (MixUp); 0 for none.
        cutmix_alpha: in training, paste a patch of one clip into another, likewise (CutMix); 0 for none. With both,
            each batch takes one of them.
        mix_probability: share of the training batches that are mixed, if any are.
        **kwargs: of `VideoNetwork`; classes or their number are needed.

    Attributes:
        view_average: what is averaged over a video's views: probabilities, or logits, whose mean then gives them.
        views_at_once: views in one forward pass of a test, at most, which bounds memory; None takes those of a whole
            batch.

    Raises:
        ValueError: an argument out of range; neither classes nor their number given, or both and unlike.
    """

    view_average: Literal["probabilities", "logits"] = "probabilities"
    views_at_once: int | None = None

    def __init__(
        self,
        label_smoothing: float = 0.0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        mix_probability: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if self.num_classes < 1:
            raise ValueError(f"num_classes={kwargs.get('num_classes')}: give a number of at least 1, or class_names")
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be in [0, 1)")
        for name, value in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
            if value < 0:
                raise ValueError(f"{name}={value}: must be at least 0")
        if not 0 <= mix_probability <= 1:
            raise ValueError(f"mix_probability={mix_probability}: must be from 0 to 1")
        self.label_smoothing = label_smoothing
        self.mixing = (mixup_alpha, cutmix_alpha, mix_probability)
        self.train_metrics = classification_metrics(self.num_classes, "train")
        self.val_metrics = classification_metrics(self.num_classes, "val")
        self.test_metrics = classification_metrics(self.num_classes, "test")
        self.val_loss = MeanMetric()

    # From clips to scores.

    def clip_logits(self, x: Tensor) -> Tensor:
        """Logits of clips: normalized float (N, C, T, H, W) to (N, K)."""
        logits: Tensor = self.stages(x)
        return logits

    def forward(self, batch: ClipBatch) -> Tensor:
        """Logits of the clips of a batch: (N, K)."""
        return self.clip_logits(self.normalize(batch))

    def video_scores(self, batch: ClipBatch) -> Tensor:
        """Probabilities of the videos of a batch, of all their views together: float32 (B, K)."""
        if batch.num_videos == 0:
            return self.mean.new_zeros((0, self.num_classes))
        return self.scores_of(self.view_means(batch))

    def view_means(self, batch: ClipBatch) -> Tensor:
        """Means over the views of each of B videos, float32 (B, K), of what `view_average` says is averaged.

        Those of parts of a video, weighted by their views, make that of the video: `scores_of` makes scores of it.
        """
        scores = self._view_logits(batch)
        if self.view_average == "probabilities":
            scores = scores.softmax(dim=1)
        views = torch.bincount(batch.video_index, minlength=batch.num_videos)
        sums = scores.new_zeros((batch.num_videos, self.num_classes))
        return sums.index_add_(0, batch.video_index, scores) / views[:, None]

    def scores_of(self, means: Tensor) -> Tensor:
        """Probabilities, float32 (B, K), of videos with such `view_means`."""
        return means.softmax(dim=1) if self.view_average == "logits" else means

    def _view_logits(self, batch: ClipBatch) -> Tensor:
        """Logits of all views: float32 (N, K); no more views are normalized and computed at a time than is allowed."""
        pieces = torch.split(batch.clips, self.views_at_once or max(1, len(batch.clips)))
        return torch.cat([self(batch._replace(clips=piece)).float() for piece in pieces])

    # Learning and being judged.

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Mean cross entropy of the clips, each with its video's label, or of mixed clips with both labels' shares.

        The metrics of training hold a mixed clip against the label that has the greater share in it.
        """
        if batch.num_videos == 0:
            return self.learn_nothing(batch, self.clip_logits)
        x, labels = self.normalize(batch), batch.labels[batch.video_index]
        targets = labels
        mix = self._mix_of(x, batch_idx)
        if mix is not None:
            x, targets = mix.clips(x), mix.targets(labels, self.num_classes)
            labels = mix.dominant(labels)
        logits = self.clip_logits(x)
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        self.train_metrics.update(logits.detach().float().softmax(dim=1), labels)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels))
        self.log_dict(self.train_metrics, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def _mix_of(self, x: Tensor, batch_idx: int) -> MixUpCutMix | None:
        mix = draw_mix(self.draw_key(batch_idx), len(x), (x.shape[3], x.shape[4]), *self.mixing)
        return None if mix is None else mix._replace(partners=mix.partners.to(x.device))

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Updates the metrics of the validation split, a video once."""
        if batch.num_videos > 0:
            scores = self.video_scores(batch)
            self.val_metrics.update(scores, batch.labels)
            loss = F.nll_loss(scores.clamp_min(1e-12).log(), batch.labels)
            self.val_loss.update(loss, weight=batch.num_videos)
        self.log("val/loss", self.val_loss, batch_size=batch.num_videos)
        self.log_dict(self.val_metrics, prog_bar=True, batch_size=batch.num_videos)

    def test_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Any]:
        """Updates the metrics of the test split; returns keys, labels, scores and what failed, for callbacks."""
        scores = self.video_scores(batch)
        if batch.num_videos > 0:
            self.test_metrics.update(scores, batch.labels)
        self.log_dict(self.test_metrics, batch_size=batch.num_videos)
        return {
            "keys": batch.keys,
            "rows": batch.rows,
            "labels": batch.labels,
            "scores": scores,
            "failed": batch.failed,
        }

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Any]:
        """The keys and scores of a batch's videos: float32 (B, K)."""
        return {"keys": batch.keys, "rows": batch.rows, "scores": self.video_scores(batch)}
