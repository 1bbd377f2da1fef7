"""`python -m pipeline show`: an HTML page of clips exactly as training, test and export see them.

The clips come from the configured data module, through its data loaders and its transforms on the device, so that they
are those of a run, except for normalization and mixing (MixUp, CutMix), which belong to the network.
"""

import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
from jsonargparse import Namespace
from pytorch_lightning.cli import LightningArgumentParser

from datamodules.annotations.records import ALL_VIDEOS
from datamodules.batch import ClipBatch, Window
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.data_options import DataOptions
from datamodules.loading.view_maker import read_times
from datamodules.optical_flow.flow_levels import draw_channels
from datamodules.options import Options
from datamodules.sampling.batch_sampler import TrainRequests
from datamodules.sampling.clip_sampling import Seconds
from datamodules.storage.atomic_write import write_atomically
from pipeline.cli.arguments import expand_option_names
from pipeline.cli.config_files import refuse_bad_configs
from pipeline.cli.terminal import print_text
from pipeline.dataset_tools.show_page import ShownClip, ShownStage, ShownVideo, draw_clips_page, make_shown_clip
from pipeline.training.lightning_cli import TrainingCLI, parser_settings

Stage = Literal["train", "val", "test", "predict"]
STAGES: tuple[Stage, ...] = ("train", "val", "test", "predict")
# Options of the data module that the page lists.
_SHOWN_OPTIONS = (
    *("stream", "num_frames", "frame_interval", "fps", "segments", "short_videos", "still", "resize", "crop_size"),
    *("random_resized_crop", "flip_probability", "sided_classes", "rand_augment", "color_jitter", "clips_per_video"),
    *("val_num_clips", "test_sampling", "num_clips", "num_crops", "clip_step", "seed", "fold", "split_file"),
)


def main(arguments: list[str]) -> None:
    """Runs the verb: the options of `fit` make the data module, the options of `show` the page.

    Args:
        arguments: the command line after `show`, such as `["--config", "my.yaml", "--out", "a.html"]`.

    Raises:
        ValueError: the configuration, the dataset or an option is wrong.
    """
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    cli = _ShowCLI(
        pl.LightningModule,
        pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        seed_everything_default=0,
        parser_kwargs=parser_settings() | {"prog": "python -m pipeline show"},
        args=expand_option_names(PageOptions, arguments),
        run=False,
    )
    if not isinstance(cli.datamodule, ShardedVideoDataModule):
        raise ValueError(f"data={type(cli.datamodule).__name__}: `show` knows ShardedVideoDataModule, or one from it")
    show(cli.datamodule, PageOptions(**{field.name: cli.config[field.name] for field in fields(PageOptions)}))


@dataclass(frozen=True)
class PageOptions(Options):
    """Options of the page that `show` writes.

    Attributes:
        out: the HTML file to write; its pictures are embedded.
        stage: the stages to show, of train, val, test and predict (feature export); default: all that the dataset has.
        num_videos: number of videos of each stage: the first ones of the epoch, in a run of one process.
        num_views: number of views (clips, or crops of clips) of each video, evenly spaced.
        epoch: the training epoch whose order and augmentation are shown, from 0.
        split_file: name, path or URL of the split file whose splits or folds are shown; default: as configured.
    """

    out: Path
    stage: Stage | list[Stage] | None = None
    num_videos: int = 4
    num_views: int = 3
    epoch: int = 0
    split_file: str | None = None

    def check(self) -> None:
        """Refuses a page of nothing."""
        self.require_at_least(1, "num_videos", "num_views")
        self.require_at_least(0, "epoch")


def show(data: ShardedVideoDataModule, page: PageOptions) -> None:
    """Writes a page of clips as a data module feeds them to a network.

    Args:
        data: the data module; its batch size is lowered to what the page needs, which changes no clip.
        page: the options of the page.

    Raises:
        ValueError: there is no dataset, or it lacks a stage that `page.stage` names.
    """
    data.options = replace(data.options, num_workers=0, batch_size=min(page.num_videos, data.options.batch_size))
    if page.split_file is not None:
        data.options = replace(data.options, split_file=page.split_file)
        vars(data).pop("index", None)  # may be open already, with other splits
    if data.index.manifest.is_undivided:
        _take_all_videos(data)
    stages = []
    for name in [page.stage] if isinstance(page.stage, str) else page.stage or STAGES:
        try:
            stages.append(_read_stage(data, name, page))
        except ValueError as error:
            if page.stage is not None or name == "train":
                raise
            print_text(f"{name} is not shown: {error}")
            stages.append(ShownStage(name, str(error), []))
    settings = {name: str(getattr(data.options, name)) for name in _SHOWN_OPTIONS}
    title, origin = f"{data.index.name}: clips as the network gets them", data.identity | {"epoch": page.epoch}
    page.out.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(page.out) as temporary:
        temporary.write_text(draw_clips_page(title, origin, settings, stages), encoding="utf-8")
    videos = sum(len(stage.videos) for stage in stages)
    print_text(f"wrote {page.out}: {videos} videos, {page.out.stat().st_size / 2**20:.1f} MiB")


def _take_all_videos(data: ShardedVideoDataModule) -> None:
    """Takes the split of all videos where a split is the default, which a dataset that is not divided does not have."""
    default, chosen = DataOptions(), data.options
    splits: dict[str, Any] = {"train_split": ALL_VIDEOS, "test_split": ALL_VIDEOS, "predict_split": ALL_VIDEOS}
    splits["val_split"] = None
    is_default = {name: getattr(chosen, name) == getattr(default, name) for name in splits}
    data.options = replace(chosen, **{name: split for name, split in splits.items() if is_default[name]})


class _ShowCLI(TrainingCLI):
    """The configuration of `fit` with the options of `show` added; only the data module is instantiated."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_class_arguments(PageOptions, as_group=False)
        for name in ("ckpt_path", "weights_only"):  # a configuration that `fit` saved has these too
            parser.add_argument(f"--{name}", default=None, help="not looked at")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        refuse_bad_configs(args)
        self._command_line = args  # what it says of clips is kept
        self.config = parser.parse_args(args)

    def instantiate_classes(self) -> None:
        data_config = Namespace(data=self.config.data)  # type: ignore[no-untyped-call]
        self.datamodule = self.parser.instantiate_classes(data_config).data


def _read_stage(data: ShardedVideoDataModule, stage: Stage, page: PageOptions) -> ShownStage:
    """The first videos of a stage, read through the data loader of a run."""
    if stage == "train":
        data.setup("fit")
    loader = getattr(data, f"{stage}_dataloader")()
    if not loader:  # `val_split: null`
        raise ValueError(f"{stage}_split=null: there is nothing to show")
    if isinstance(loader.sampler, TrainRequests):
        loader.sampler.set_epoch(page.epoch)
    videos: list[ShownVideo] = []
    for batch in loader:
        crops = batch.crops_to_cut
        videos += _make_videos(data, data.on_after_batch_transfer(batch, 0), crops, page.num_views)
        if len(videos) >= page.num_videos:
            break
    line = f"split {getattr(data.options, f'{stage}_split')}" + (f", epoch {page.epoch}" if stage == "train" else "")
    return ShownStage(stage, line, videos[: page.num_videos])


def _make_videos(data: ShardedVideoDataModule, batch: ClipBatch, crops: int, num_views: int) -> list[ShownVideo]:
    shown = []
    for video, key in enumerate(batch.keys):
        views = (batch.video_index == video).nonzero().flatten().tolist()
        times = _frame_times(data.index, int(batch.rows[video]))
        chosen = np.linspace(0, len(views) - 1, min(num_views, len(views))).round().astype(int).tolist()
        clips = [_make_clip(data, batch, views[number], times, number, crops) for number in chosen]
        row = int(batch.rows[video])
        label = ", ".join(data.class_names[label] for label in data.index.labels(row)) or "no label"
        shown.append(ShownVideo(key, label, clips, len(views) - len(clips), data.index.entry(row).describe_segment()))
    return shown


def _frame_times(index: DatasetIndex, row: int) -> Seconds:
    """The presentation timestamps of a video's frames, in seconds: float64 (F,)."""
    entry = index.entry(row)
    times = read_times(entry, index.read_video(row)) if entry.variable_rate else None
    return np.arange(entry.num_frames) / entry.fps if times is None else times


def _make_clip(
    data: ShardedVideoDataModule, batch: ClipBatch, view: int, times: Seconds, number: int, crops: int
) -> ShownClip:
    assert batch.frame_numbers is not None, "the reader records them"
    assert batch.windows is not None, "the reader records them"
    frames = batch.clips[view].cpu().numpy()
    drawn = draw_channels(np.ascontiguousarray(frames))
    steps = [describe_window(batch.windows[view], frames.shape[1:3])]
    if batch.seeds:
        steps += data.augmentation.describe(batch.seeds[view])
    numbers = batch.frame_numbers[view].tolist()
    start, end = batch.clip_times[view].tolist()
    name = f"clip {number // crops + 1}" + (f", crop {number % crops + 1} of {crops}" if crops > 1 else "")
    return make_shown_clip(name, drawn, numbers, times[numbers].tolist(), (start, end), steps)


def describe_window(window: Window, size: tuple[int, ...]) -> str:
    """Describes the window of a clip: `112 x 112 at row 8, column 20 of 128 x 171, mirrored`."""
    part = f"{window.height} x {window.width} at row {window.top}, column {window.left}"
    if (window.height, window.width) == (window.frame_height, window.frame_width):
        part = "all"
    resized = f", resized to {size[0]} x {size[1]}" if tuple(size) != (window.height, window.width) else ""
    mirrored = ", mirrored" if window.mirrored else ""
    return f"{part} of {window.frame_height} x {window.frame_width}{resized}{mirrored}"
