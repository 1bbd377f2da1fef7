"""`python -m pipeline evaluate`: a checkpoint on a split it has not seen, several views a video, every video once."""

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from datamodules.clips import ShortVideos
from datamodules.renditions import WantedRendition
from datamodules.tars import file_sha256
from datamodules.video import Decoder, ShardedVideoDataModule
from lightning_modules import VideoClassifier
from pipeline.inference import run_over_split
from pipeline.predictions import PREDICTIONS_NAME, REPORT_NAME, prediction_schema, prediction_table, read_predictions
from pipeline.rank_tables import RankTables
from pipeline.results import print_report, summarize, write_report
from pipeline.trained import Trained, describe, open_checkpoint, open_data, rows_of, try_one_clip, view_settings


def evaluate(
    checkpoint: Path,
    data: Path,
    split: str = "test",
    fold: str | None = None,
    num_clips: int | None = None,
    clip_step: int | None = None,
    whole: bool = False,
    max_frames: int = 512,
    num_crops: Literal[1, 3] = 1,
    out: Path | None = None,
    batch_size: int = 8,
    num_workers: int = 2,
    decoder: Decoder = "auto",
    accelerator: str = "auto",
    devices: int = 1,
    allow: list[str] | None = None,
    allow_overlap: bool = False,
    num_frames: int | None = None,
    frame_interval: int | None = None,
    fps: float | None = None,
    crop_size: int | None = None,
    resize: int | tuple[int, int] | None = None,
    rendition: WantedRendition | None = None,
    short_videos: ShortVideos | None = None,
    still: bool | None = None,
) -> None:
    """Score a checkpoint on a held-out split of a packed dataset, several views a video.

    A video's scores are the mean of its views' probabilities. Clips are like those of the training unless options say
    otherwise. Written to `out`: predictions.parquet, a row a video with all its scores, and report.json with top-1,
    top-5 and mean class accuracy.

    Args:
        checkpoint: file that `fit` wrote, or a name that `python -m pipeline weights list` prints.
        data: folder of the packed dataset; its classes must be the checkpoint's.
        split: videos to score.
        fold: for datasets with folds; default: the fold the checkpoint was trained in.
        num_clips: clips a video, spread evenly; default: 10.
        clip_step: take clips this many source frames apart instead.
        whole: take all of a video as one clip instead, for networks that take any number of frames.
        max_frames: of a clip of a whole video; a longer video gives several, evenly.
        num_crops: crops a clip: 1 (the center) or 3 (along the longer side).
        out: folder for the results; default: {checkpoint's name}-{split}, beside the checkpoint.
        batch_size: videos in a step of one process, at most.
        num_workers: processes that decode, for each process that computes.
        decoder: auto, pyav, decord or torchcodec; which one it was is recorded.
        accelerator: Lightning's: auto, cpu, gpu, ...
        devices: processes or GPUs that compute; the result is the same with any number.
        allow: modules that the checkpoint's model class may come from, besides lightning_modules.
        allow_overlap: score videos that the checkpoint was trained on, or of the same groups, all the same.
        num_frames: frames of a clip, in place of the training's.
        frame_interval: source frames from one frame of a clip to the next, in place of the training's.
        fps: take frames at this rate, in place of the training's.
        crop_size: pixels of height and width, in place of the training's.
        resize: short side, or [height, width], before cropping, in place of the training's.
        rendition: short side of the rendition to read, or auto, for a dataset packed in several sizes; default: the one
            trained on, on the same dataset, else auto: the smallest that is as large as `resize` asks for.
        short_videos: loop, repeat_last or error, in place of the training's.
        still: repeat one frame in every clip: what can be told without motion; default: as in training.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the checkpoint, dataset, split, fold or clips do not go together, or the checkpoint has seen the
            videos.
        DecodeError: a video cannot be decoded; nothing is written.
    """
    began = time.monotonic()
    views = view_settings(num_clips, clip_step, whole, max_frames, num_crops)
    trained = open_checkpoint(checkpoint, allow, VideoClassifier)
    clips = {
        "num_frames": num_frames,
        "frame_interval": frame_interval,
        "fps": fps,
        "crop_size": crop_size,
        "resize": resize,
        "rendition": rendition,
        "short_videos": short_videos,
        "still": still,
    }
    videos = open_data(
        trained,
        data,
        split,
        fold,
        clips,
        **views,
        batch_size=batch_size,
        num_workers=num_workers,
        decoder=decoder,
    )
    overlap = find_overlap(trained, videos)
    if overlap is not None and not allow_overlap:
        raise ValueError(
            f"split={split!r}: the checkpoint was trained on {overlap['videos']} of its {overlap['of']} videos, and "
            f"{overlap['groups']} of its groups: choose a held-out split, or say --allow-overlap"
        )
    try_one_clip(trained, videos)
    provenance = describe(trained, videos) | {"scores": "probability", "overlap": overlap}
    folder = out or default_folder(checkpoint, split, provenance["fold"])
    logged = _score(trained, videos, folder, provenance, accelerator, devices)
    if logged is not None:
        scores, table = read_predictions(folder / PREDICTIONS_NAME)
        report = summarize(scores, table.column("label").to_numpy(), trained.model.class_names)
        of_each = views["num_clips"] * num_crops if views["test_sampling"] == "uniform" else None
        report |= {"views": of_each, "seconds": round(time.monotonic() - began, 1)}
        report |= {"logged": logged, "predictions_sha256": file_sha256(folder / PREDICTIONS_NAME)}
        report |= {"provenance": provenance}
        write_report(folder / REPORT_NAME, report)
        title = f"{checkpoint.name} on {provenance['dataset']}, {split}"
        shown = "whole videos" if whole else f"{clip_step} frames apart" if clip_step else str(of_each)
        extra = {"views": shown, "seconds": f"{report['seconds']:.0f}"}
        if provenance["quarantined"]:
            extra["quarantined, not scored"] = str(len(provenance["quarantined"]))
        print_report(title, report, extra, [folder / PREDICTIONS_NAME, folder / REPORT_NAME])
        if overlap is not None:
            print(f"not held out: the checkpoint has seen {overlap['videos']} of these videos in training")


def _score(
    trained: Trained,
    videos: ShardedVideoDataModule,
    folder: Path,
    provenance: dict[str, Any],
    accelerator: str,
    devices: int,
) -> dict[str, float] | None:
    """Writes predictions.parquet; gives what the model's own metrics say, on the first rank."""
    names = trained.model.class_names
    schema = prediction_schema(len(names), provenance)

    def to_table(outputs: dict[str, Any]) -> pa.Table:
        labels, scores = outputs["labels"].cpu().numpy(), outputs["scores"].float().cpu().numpy()
        return prediction_table(schema, outputs["keys"], labels, scores, names)

    keys = videos.index.column("key", rows_of(videos))
    tables = RankTables(folder / PREDICTIONS_NAME, schema, to_table, list(keys), "evaluate")
    return run_over_split(trained.model, videos, tables, "test", accelerator, devices)


def default_folder(checkpoint: Path, split: str, fold: str | None) -> Path:
    """Where results go if nobody says: {stem}-{split}, or {stem}-{split}-fold{fold}, beside the checkpoint."""
    return checkpoint.with_name("-".join([checkpoint.stem, split, *([] if fold is None else [f"fold{fold}"])]))


def find_overlap(trained: Trained, videos: ShardedVideoDataModule) -> dict[str, int] | None:
    """How many of the videos, and of their groups, the checkpoint was trained on; None where none, as far as is known.

    Known is what was trained on for checkpoints of this very dataset, in any rendition: by its family.
    """
    index = videos.index
    if trained.family != index.manifest.family:
        return None
    seen, asked = index.rows(trained.dataset["train_split"], trained.dataset["fold"]), rows_of(videos)
    shared = int(np.isin(asked, seen).sum())
    groups = {group for group in set(index.column("group", seen)) & set(index.column("group", asked)) if group}
    if not shared and not groups:
        return None
    return {"videos": shared, "of": len(asked), "groups": len(groups)}
