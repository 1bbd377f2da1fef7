"""`FeatureExport`: any network's named layer as one vector a video, or a clip, under Lightning's `trainer.predict`."""

from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules.batch import ClipBatch
from lightning_modules import VideoNetwork

_FORWARD_BYTES = 2**25  # of float clips in one forward pass: 13 of C3D's, whose first layer then takes 0.7 GB


class ExportedFeatures(NamedTuple):
    """The rows of one batch.

    Attributes:
        rows: int64 (M,), rows of the videos in the dataset's index.
        features: float32 (M, D), on the CPU.
        clips: int64 (M,), for each row the number of the clip in its video; all 0 where a row is a video.
        times: float64 (M, 2), start and end in the video, in seconds: of the clip, or from the first to the last clip.
    """

    rows: Tensor
    features: Tensor
    clips: Tensor
    times: Tensor


class FeatureExport(pl.LightningModule):
    """Gives the features of a batch in `predict_step`.

    Args:
        model: the network.
        layer: one of its endpoints.
        per_clip: a row a clip (the mean over its crops) instead of a row a video (the mean over its views).
        num_crops: crops of a clip; the batch holds them next to each other.
    """

    def __init__(self, model: VideoNetwork, layer: str, per_clip: bool, num_crops: int) -> None:
        super().__init__()
        self.model = model
        self.layer = layer
        self.per_clip = per_clip
        self.num_crops = num_crops

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> ExportedFeatures:
        """Features of the batch's videos or clips; a batch without videos gives no rows."""
        clip_video = batch.video_index[:: self.num_crops].cpu()
        clip_times = batch.clip_times[:: self.num_crops].cpu()
        views, rows = self._view_features(batch), batch.rows.cpu()
        if self.per_clip:
            clips = torch.arange(len(clip_video))
            first = torch.searchsorted(
                clip_video, clip_video
            )  # the first clip of each clip's video, for they are sorted
            features = _mean_by(clips.repeat_interleave(self.num_crops), views, len(clips))
            return ExportedFeatures(rows[clip_video], features, clips - first, clip_times)
        count = batch.num_videos
        times = torch.stack(
            [
                torch.zeros(count, dtype=torch.float64).scatter_reduce(0, clip_video, ends, how, include_self=False)
                for ends, how in zip(clip_times.unbind(dim=1), ("amin", "amax"), strict=True)
            ],
            dim=1,
        )
        features = _mean_by(batch.video_index.cpu(), views, count)
        return ExportedFeatures(rows, features, torch.zeros(count, dtype=torch.int64), times)

    def _view_features(self, batch: ClipBatch) -> Tensor:
        """Pooled features of all views: float32 (N, D), on the CPU."""
        view_bytes = max(1, batch.clips[:1].numel() * 4)
        pieces = torch.split(batch.clips, max(1, _FORWARD_BYTES // view_bytes)) if len(batch.clips) else ()
        pooled = []
        for piece in pieces:
            x = self.model.normalize(batch._replace(clips=piece))
            pooled.append(pool(self.model.endpoints(x, [self.layer])[self.layer]).float().cpu())
        return torch.cat(pooled) if pooled else torch.empty(0, 0)


def pool(feature: Tensor) -> Tensor:
    """One vector a clip, by the mean over all other axes.

    Args:
        feature: (N, D); a sequence (N, T, D), averaged over T; or (N, D, ...), such as (N, D, T, H, W), averaged over
            what follows D.

    Returns:
        (N, D).

    Raises:
        ValueError: a layer without a feature axis.
    """
    if feature.ndim < 2:
        raise ValueError(f"a layer of shape {tuple(feature.shape)} has no features: choose another")
    if feature.ndim == 2:
        return feature
    return feature.mean(dim=1) if feature.ndim == 3 else feature.flatten(2).mean(dim=2)


def _mean_by(owner: Tensor, features: Tensor, count: int) -> Tensor:
    """Mean of the rows (N, D) of each owner: (count, D)."""
    if count == 0:
        return features.new_zeros((0, features.shape[1]))
    sums = features.new_zeros((count, features.shape[1])).index_add_(0, owner, features)
    return sums / torch.bincount(owner, minlength=count)[:, None]
