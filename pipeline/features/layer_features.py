"""`FeatureExport`: LightningModule whose predict step returns layer outputs as features of videos, clips or both."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor

from datamodules.batch import ClipBatch
from lightning_modules import VideoNetwork
from pipeline.processes.compute_device import forward_bytes

Pooling = Literal["mean", "max", "mean_max", "time", "none"]
RowUnit = Literal["video", "clip", "both"]
VIDEO_ROW = -1  # clip number of the row of a whole video


class ExportedFeatures(NamedTuple):
    """Features of one batch; the rows of a video are contiguous.

    Attributes:
        rows: int64 (M,), row numbers of the videos in the dataset's index.
        features: features by layer, float32 (M, D), on the CPU; further axes are flattened.
        clips: int64 (M,), number of the clip in its video, or `VIDEO_ROW` for the row of a whole video.
        times: float64 (M, 2), start and end in seconds: of the clip, or of the span of all clips of the video.
        failed: row number, reason and description of the videos of the batch that could not be decoded.
    """

    rows: Tensor
    features: dict[str, Tensor]
    clips: Tensor
    times: Tensor
    failed: Sequence[tuple[int, str, str]] = ()


class FeatureExport(pl.LightningModule):
    """LightningModule that returns the features of a batch from `predict_step`.

    Args:
        model: the network.
        layers: names of endpoints of the network.
        per: one row per video (mean over its views), one per clip (mean over its crops), or rows of clips followed by
            the row of the video.
        num_crops: number of crops per clip, which are contiguous in the batch.
        pooling: pooling over time and space, see `pool_features`.
    """

    def __init__(
        self, model: VideoNetwork, layers: Sequence[str], per: RowUnit, num_crops: int, pooling: Pooling = "mean"
    ) -> None:
        super().__init__()
        self.model = model
        self.layers = list(layers)
        self.per = per
        self.num_crops = num_crops
        self.pooling = pooling

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> ExportedFeatures:
        """Returns the features of the batch's videos or clips; no rows for an empty batch."""
        video_of_clip = batch.video_index[:: self.num_crops].cpu().contiguous()  # video of each clip, ascending
        views, num_videos = self._view_features(batch), batch.num_videos
        clip_in_video = torch.arange(len(video_of_clip)) - torch.searchsorted(
            video_of_clip, video_of_clip
        )  # index of each clip in its video
        clip_times = batch.clip_times[:: self.num_crops].cpu()
        row_videos, clip_numbers, times, features = [], [], [], []
        if self.per != "video":
            clip_of_view = torch.arange(len(video_of_clip)).repeat_interleave(self.num_crops)
            row_videos.append(video_of_clip)
            clip_numbers.append(clip_in_video)
            times.append(clip_times)
            features.append(
                {
                    name: _mean_by(clip_of_view, layer_features, len(video_of_clip))
                    for name, layer_features in views.items()
                }
            )
        if self.per != "clip":
            row_videos.append(torch.arange(num_videos))
            clip_numbers.append(torch.full((num_videos,), VIDEO_ROW))
            times.append(_span(video_of_clip, clip_times, num_videos))
            features.append(
                {
                    name: _mean_by(batch.video_index.cpu(), layer_features, num_videos)
                    for name, layer_features in views.items()
                }
            )
        video_of_row = torch.cat(row_videos)
        order = torch.argsort(video_of_row, stable=True)
        return ExportedFeatures(
            batch.rows.cpu()[video_of_row[order]],
            {name: torch.cat([layer_features[name] for layer_features in features])[order] for name in self.layers},
            torch.cat(clip_numbers)[order],
            torch.cat(times)[order],
            batch.failed,
        )

    def _view_features(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Computes pooled features of all views by layer: float32 (N, D), on the CPU."""
        view_bytes = max(1, batch.clips[:1].numel() * 4)
        views_at_once = max(1, forward_bytes(batch.clips.device) // view_bytes)
        pieces = torch.split(batch.clips, views_at_once) if len(batch.clips) else ()
        pooled: dict[str, list[Tensor]] = {name: [] for name in self.layers}
        for piece in pieces:
            outputs = self.model.endpoints(self.model.normalize(batch._replace(clips=piece)), self.layers)
            for name in self.layers:
                pooled[name].append(pool_features(outputs[name], self.pooling).flatten(1).float())
        return {name: torch.cat(parts).cpu() if parts else torch.empty(0, 0) for name, parts in pooled.items()}


def pool_features(feature: Tensor, pooling: Pooling = "mean") -> Tensor:
    """Pools the output of a layer to one feature per clip.

    Args:
        feature: layer output: (N, D); a sequence (N, T, D); or (N, D, ...), such as (N, D, T, H, W).
        pooling: `mean` or `max` over all axes but N and D; `mean_max`: both; `time`: mean over space only; `none`: no
            pooling.

    Returns:
        (N, D) for `mean` and `max`; (N, 2, D) for `mean_max`, the mean first; (N, T, D) for `time`; the shape of
        `feature` for `none`.

    Raises:
        ValueError: the layer has no feature axis, or no time axis for `time`.
    """
    if feature.ndim < 2:
        raise ValueError(f"a layer of shape {tuple(feature.shape)} has no features: choose another")
    if pooling == "none":
        return feature
    is_sequence = feature.ndim == 3
    if pooling == "time":
        if feature.ndim not in (3, 5):
            raise ValueError(f"pool='time': a layer of shape {tuple(feature.shape[1:])} has no time; use mean or none")
        return feature if is_sequence else feature.flatten(3).mean(dim=3).transpose(1, 2)
    if feature.ndim == 2:
        return torch.stack([feature, feature], dim=1) if pooling == "mean_max" else feature
    positions = feature if is_sequence else feature.flatten(2).transpose(1, 2)
    if pooling == "mean_max":
        return torch.stack([positions.mean(dim=1), positions.amax(dim=1)], dim=1)
    return positions.mean(dim=1) if pooling == "mean" else positions.amax(dim=1)


def _span(video_of_clip: Tensor, times: Tensor, count: int) -> Tensor:
    """Computes the first start and the last end of each video's clips: float64 (count, 2)."""
    spans = [
        torch.zeros(count, dtype=torch.float64).scatter_reduce(0, video_of_clip, ends, reduction, include_self=False)
        for ends, reduction in zip(times.unbind(dim=1), ("amin", "amax"), strict=True)
    ]
    return torch.stack(spans, dim=1)


def _mean_by(owner: Tensor, features: Tensor, count: int) -> Tensor:
    """Averages rows (N, D) by owner: (count, D)."""
    if count == 0:
        return features.new_zeros((0, features.shape[1]))
    sums = features.new_zeros((count, features.shape[1])).index_add_(0, owner, features)
    return sums / torch.bincount(owner, minlength=count)[:, None]
