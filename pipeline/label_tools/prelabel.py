"""`python -m pipeline prelabel`: predictions as what Label Studio and FiftyOne import beside the labels of people."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from datamodules.annotations.list_format import MAX_FRAME_RATE
from datamodules.annotations.skipped_files import count_noun, join_first_names
from datamodules.options import Options
from datamodules.storage.atomic_write import write_folder_atomically
from datamodules.storage.plain_text import to_json
from datamodules.timed_lists.label_studio import DEFAULT_FRAME_RATE
from pipeline.cli.terminal import print_text
from pipeline.inference.output_paths import refuse_other_files
from pipeline.label_tools.fiftyone_datasets import describe_import, make_datasets
from pipeline.label_tools.label_studio_tasks import LOCAL_FILES, make_configuration, make_tasks
from pipeline.label_tools.predicted_videos import Predictions, label_json_lines, label_scores
from pipeline.label_tools.score_files import open_index, read_score_file, take_listed
from pipeline.metrics.predictions import PREDICTIONS_NAME

TASKS_NAME, CONFIGURATION_NAME = "tasks.json", "labeling_config.xml"
_OUTPUTS = {TASKS_NAME, CONFIGURATION_NAME, "classifications", "detections"}  # what a folder of this verb has


@dataclass(frozen=True)
class PrelabelOptions(Options):
    """Options of `prelabel`.

    Attributes:
        predictions: folder of results that `evaluate`, `linear` or `fuse` wrote, or its predictions.parquet; the file
            of `classify --out`; or a file with the lines that `classify --json` prints, with or without a timeline.
        videos: folder of the video files, as it was given to `pack` or `classify`.
        out: folder to write.
        to: label_studio: tasks.json, to import into a project, and labeling_config.xml, the project's labeling
            configuration; fiftyone: classifications (FiftyOneVideoLabelsDataset), detections
            (FiftyOneTemporalDetectionDataset), or both.
        data: the packed dataset that was scored, whose index has the paths of the videos; results of segments, and
            those of files, have the paths themselves.
        list: videos.csv of `review`: only the videos in it, in its order; for scores, not for lines of JSON.
        threshold: least probability of a label. Default: 0.5 for results of several labels; else 0, the best class of
            every video.
        url_prefix: label_studio: beginning of the address of a video, which its path below `videos` follows. Default:
            that of Label Studio's local files, for a storage whose document root is `videos`.
        annotation_fps: label_studio: frames per second at which parts are counted, the `frameRate` in the
            configuration, and the option of `pack` that reads what is exported. Default: 24, as in Label Studio.
        model_version: label_studio: name of the model in the tool. Default: name and digest of the checkpoint.
        overwrite: replace a folder that this verb wrote.
    """

    predictions: Path
    videos: Path
    out: Path
    to: Literal["label_studio", "fiftyone"]
    data: Path | None = None
    list: Path | None = None
    threshold: float | None = None
    url_prefix: str | None = None
    annotation_fps: float | None = None
    model_version: str | None = None
    overwrite: bool = False

    def check(self) -> None:
        """Raises ValueError for values out of range, and for options of the other tool."""
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold}: must be from 0 to 1")
        if self.annotation_fps is not None and not 0 < self.annotation_fps <= MAX_FRAME_RATE:
            raise ValueError(f"annotation_fps={self.annotation_fps}: must be above 0 and at most {MAX_FRAME_RATE}")
        for name in ("url_prefix", "annotation_fps", "model_version"):
            value = getattr(self, name)
            if value is not None and self.to != "label_studio":
                raise ValueError(f"{name}={value}: is for --to label_studio; leave it out")


def prelabel(options: PrelabelOptions) -> None:
    """Write predictions in the form that Label Studio or FiftyOne imports beside the labels of people.

    Labels are the best class of a video or, of results with several labels, all classes that reach the threshold; of a
    timeline its stretches. Segments of one recording are parts of that file.

    Args:
        options: predictions, videos and tool.

    Raises:
        FileNotFoundError: the predictions, the dataset or the folder of the videos do not exist.
        ValueError: the predictions cannot be read, their videos are not below `videos`, or `out` has other files.
    """
    refuse_other_files(options.out, _OUTPUTS, options.overwrite)
    if not options.videos.is_dir():
        raise FileNotFoundError(f"videos={options.videos}: there is no such folder; name the folder of the video files")
    predictions, folder = _read(options)
    predictions = place_below(predictions, options.videos, folder)
    if not predictions.videos:
        raise ValueError(f"{options.predictions}: has no video with a prediction; classify the videos again")
    if options.to == "label_studio":
        files = _label_studio_files(predictions, options)
    else:
        files = {name: to_json(content) for name, content in make_datasets(predictions, options.videos).items()}
    with write_folder_atomically(options.out) as temporary:
        for name, text in files.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            (temporary / name).write_text(text, encoding="utf-8")
    _print_summary(predictions, files, options)


def _read(options: PrelabelOptions) -> tuple[Predictions, Path]:
    """The predictions, and the folder in which their paths begin where they do not begin in that of the videos."""
    path = options.predictions
    if path.is_dir() or path.suffix == ".parquet":
        file = read_score_file(path)
        index = open_index(options.data, file)
        if options.list is not None:
            file = take_listed(file, options.list)
        return label_scores(file, index, options.threshold), file.folder or Path()
    if options.list is not None:
        raise ValueError(f"list={options.list}: is for scores; lines of JSON have no keys, so take those that you need")
    if not path.is_file():
        raise FileNotFoundError(
            f"predictions={str(path)!r}: there is no such file; give a folder with {PREDICTIONS_NAME}, a file of "
            "`classify --out`, or the lines of `classify --json`"
        )
    return label_json_lines(path, open_index(options.data), options.threshold), Path()


def place_below(predictions: Predictions, root: Path, other: Path) -> Predictions:
    """The predictions with paths relative to the folder of the videos.

    Args:
        predictions: the predictions.
        root: folder of the videos.
        other: folder in which a path begins if there is such a file in it, and none in `root`.

    Raises:
        ValueError: a video is outside the folder.
    """
    placed = []
    folder = Path(os.path.abspath(root))  # noqa: PTH100 - links stay as they are named
    for video in predictions.videos:
        start = other if (other / video.path).exists() and not (root / video.path).exists() else root
        path = Path(os.path.abspath(start / video.path))  # noqa: PTH100
        if not path.is_relative_to(folder):
            raise ValueError(f"videos={root}: {video.path} is not in this folder; name a folder that has all videos")
        placed.append(video._replace(path=path.relative_to(folder).as_posix()))
    return predictions._replace(videos=placed)


def _label_studio_files(predictions: Predictions, options: PrelabelOptions) -> dict[str, str]:
    rate = options.annotation_fps or DEFAULT_FRAME_RATE
    prefix = LOCAL_FILES if options.url_prefix is None else options.url_prefix
    model = options.model_version or predictions.model or options.predictions.stem
    tasks = make_tasks(predictions, prefix, rate, model)
    return {TASKS_NAME: to_json(tasks, indent=1), CONFIGURATION_NAME: make_configuration(predictions, rate)}


def _print_summary(predictions: Predictions, files: Mapping[str, Any], options: PrelabelOptions) -> None:
    labels = [one for video in predictions.videos for one in video.labels]
    parts = sum(one.is_part for one in labels)
    counts = [f"{count_noun(len(labels) - parts, 'label')} of whole files"] if len(labels) > parts else []
    counts += [f"{count_noun(parts, 'label')} of parts"] if parts else []
    files_noun = count_noun(len(predictions.videos), "file")
    print_text(f"wrote {options.out}: {' and '.join(counts) or 'no labels'}, in {files_noun}")
    if predictions.num_failed:
        print_text(f"{count_noun(predictions.num_failed, 'video')} without scores left out")
    absent = [video.path for video in predictions.videos if not (options.videos / video.path).exists()]
    if absent:
        print_text(f"not in {options.videos}: {count_noun(len(absent), 'video')}, {join_first_names(absent)}")
    lines: Sequence[str]
    if options.to == "label_studio":
        lines = [
            f"import {options.out / TASKS_NAME} into a project with the labeling configuration "
            f"{options.out / CONFIGURATION_NAME}"
        ]
    else:
        lines = describe_import(files, options.out, predictions.task)
    print_text("\n".join(lines))
