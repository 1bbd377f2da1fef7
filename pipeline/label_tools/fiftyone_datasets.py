"""Predictions as datasets that FiftyOne imports, also onto the samples of a dataset that is there.

Classes of whole files are a FiftyOneVideoLabelsDataset, labels of parts a FiftyOneTemporalDetectionDataset, the two
labeled forms for videos that keep probabilities as `confidence`. Both name the files by absolute paths: nothing is
copied, and `Dataset.merge_dir` finds the samples by them. `read_fiftyone` (`datamodules.timed_lists.fiftyone`) reads
the second.

The forms are those of FiftyOne's user guide and of its importers (fiftyone 1.22.1, utils/data/importers.py and
utils/eta.py), and were checked with these importers; the examples in tests/pipeline/label_tools are what they took.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.label_tools.predicted_videos import PredictedLabel, PredictedVideo, Predictions

FIELD, SEGMENTS_FIELD = "predictions", "predicted_segments"  # of samples: labels of the whole file, and of parts
CLASSIFICATIONS, DETECTIONS = "classifications", "detections"  # folders of the two datasets
_ATTRIBUTE = "eta.core.data.CategoricalAttribute"


def make_datasets(predictions: Predictions, root: Path) -> dict[str, Any]:
    """The files of the two datasets, of those that are needed: path relative to the output -> content of the JSON.

    Args:
        predictions: the predictions; paths are relative to `root`.
        root: folder of the videos.
    """
    with_parts = [video for video in predictions.videos if any(one.is_part for one in video.labels)]
    whole = [
        video for video in predictions.videos if video not in with_parts or not all(o.is_part for o in video.labels)
    ]
    files: dict[str, Any] = {}
    if whole:
        files |= {f"{CLASSIFICATIONS}/{name}": content for name, content in _classifications(whole, root).items()}
    if with_parts:
        files |= {
            f"{DETECTIONS}/{name}": content for name, content in _detections(predictions, with_parts, root).items()
        }
    return files


def describe_import(files: Mapping[str, Any], out: Path, task: str) -> list[str]:
    """The lines of Python that merge the datasets into the samples of a FiftyOne dataset."""
    lines = []
    if f"{CLASSIFICATIONS}/manifest.json" in files:
        several = f', multilabel=True, labels_dict={{"{FIELD}": "{FIELD}"}}' if task == "multi_label" else ""
        kind = "fo.types.FiftyOneVideoLabelsDataset"
        lines.append(f'dataset.merge_dir("{(out / CLASSIFICATIONS).absolute()}", {kind}{several})')
    if f"{DETECTIONS}/labels.json" in files:
        kind = "fo.types.FiftyOneTemporalDetectionDataset"
        folder = (out / DETECTIONS).absolute()
        lines.append(f'dataset.merge_dir("{folder}", {kind}, data_path="data.json", label_field="{SEGMENTS_FIELD}")')
    return lines


def _classifications(videos: Sequence[PredictedVideo], root: Path) -> dict[str, Any]:
    names = _unique_names(videos)
    index = [
        {"data": str((root / video.path).absolute()), "labels": f"labels/{name}.json"}
        for name, video in zip(names, videos, strict=True)
    ]
    manifest = {"type": "eta.core.datasets.LabeledVideoDataset", "description": "", "index": index}
    labels = {
        f"labels/{name}.json": {"attrs": {"attrs": [_attribute(one) for one in video.labels if not one.is_part]}}
        for name, video in zip(names, videos, strict=True)
    }
    return {"manifest.json": manifest, **labels}


def _attribute(label: PredictedLabel) -> dict[str, Any]:
    return {"type": _ATTRIBUTE, "name": FIELD, "value": label.name, "confidence": label.probability}


def _detections(predictions: Predictions, videos: Sequence[PredictedVideo], root: Path) -> dict[str, Any]:
    """labels.json with times in seconds, and the manifest data.json, whose names have the suffixes of the files."""
    numbers = {name: number for number, name in enumerate(predictions.class_names)}
    labels, manifest = {}, {}
    for name, video in zip(_unique_names(videos), videos, strict=True):
        manifest[name + PurePosixPath(video.path).suffix] = str((root / video.path).absolute())
        labels[name] = [
            {"label": numbers[one.name], "timestamps": [one.start, one.end], "confidence": one.probability}
            for one in video.labels
            if one.is_part
        ]
    return {"labels.json": {"classes": list(predictions.class_names), "labels": labels}, "data.json": manifest}


def _unique_names(videos: Sequence[PredictedVideo]) -> list[str]:
    """The paths without suffix; with it where two files differ in that alone."""
    stems = [PurePosixPath(video.path).with_suffix("").as_posix() for video in videos]
    count = Counter(stems)
    return [stem if count[stem] == 1 else video.path for stem, video in zip(stems, videos, strict=True)]
