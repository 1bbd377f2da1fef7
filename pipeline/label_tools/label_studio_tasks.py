"""Predictions as tasks of Label Studio, and the labeling configuration that they belong to.

The form is that of Label Studio's guide to pre-annotations (labelstud.io/guide/predictions): a task has `data` and
`predictions`, whose `result` names a control and an object of the labeling configuration. Classes of whole files are
Choices, parts are TimelineLabels, whose ranges count frames from 1 with both ends included, at the `frameRate` of the
Video tag. `read_label_studio` (`datamodules.timed_lists.label_studio`) reads what is exported from such a project.

Checked with label-studio-sdk 2.1.2: `LabelInterface.validate` takes the configuration, and `validate_prediction` every
prediction; the examples in tests/pipeline/label_tools are what it took.
"""

import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from datamodules.storage.plain_text import printable
from pipeline.label_tools.predicted_videos import PredictedLabel, PredictedVideo, Predictions

LOCAL_FILES = "/data/local-files/?d="  # address of files below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT
OBJECT, CHOICES, TIMELINE = "video", "action", "timeline"  # names of the tags


def make_tasks(predictions: Predictions, prefix: str, frame_rate: float, model: str) -> list[dict[str, Any]]:
    """The tasks, one a file, in the order of the predictions.

    Args:
        predictions: the predictions; paths are relative to the folder that `prefix` stands for.
        prefix: beginning of the address of a video, which its path follows, percent-encoded.
        frame_rate: frames per second at which ranges are counted, the `frameRate` of the configuration.
        model: name of the model, `model_version`, by which Label Studio tells predictions apart.
    """
    return [
        {
            "data": {OBJECT: prefix + quote(video.path, errors="surrogateescape")},
            "predictions": [
                {"model_version": model, **_score(video.labels), "result": _make_result(video, frame_rate)}
            ],
        }
        for video in predictions.videos
    ]


def _score(labels: Sequence[PredictedLabel]) -> dict[str, float]:
    """The score of a prediction, by which the least certain come first: the least probability of its labels."""
    return {"score": min(one.probability for one in labels)} if labels else {}


def _make_result(video: PredictedVideo, frame_rate: float) -> list[dict[str, Any]]:
    whole = [one for one in video.labels if not one.is_part]
    result = []
    if whole:
        value: dict[str, Any] = {"choices": [one.name for one in whole]}
        result.append(_make_region(video.path, CHOICES, "choices", value, whole[-1].probability))
    for one in video.labels:
        if one.start is not None and one.end is not None:
            first = round(one.start * frame_rate) + 1
            span = {"start": first, "end": max(first, round(one.end * frame_rate))}
            value = {"ranges": [span], "timelinelabels": [one.name]}
            result.append(_make_region(video.path, TIMELINE, "timelinelabels", value, one.probability))
    return result


def _make_region(path: str, control: str, kind: str, value: dict[str, Any], score: float) -> dict[str, Any]:
    digest = hashlib.sha256(f"{path} {value}".encode(errors="surrogateescape")).hexdigest()
    names = {"id": digest[:10], "from_name": control, "to_name": OBJECT, "type": kind}
    return {**names, "value": value, "score": score}


def make_configuration(predictions: Predictions, frame_rate: float) -> str:
    """The labeling configuration, as XML, with the classes in the order of the scores.

    Args:
        predictions: the predictions; the configuration has Choices if any is of a whole file, or none is of a part.
        frame_rate: frames per second of the timeline.

    Raises:
        ValueError: the name of a class has a character that XML cannot have.
    """
    for name in predictions.class_names:
        if printable(name) != name:
            raise ValueError(f"class {printable(name)}: has a control character, which Label Studio's XML cannot have")
    labels = [one for video in predictions.videos for one in video.labels]
    has_parts = any(one.is_part for one in labels)
    view = ElementTree.Element("View")
    if has_parts:
        timeline = ElementTree.SubElement(view, "TimelineLabels", name=TIMELINE, toName=OBJECT)
        for name in predictions.class_names:
            ElementTree.SubElement(timeline, "Label", value=name)
    ElementTree.SubElement(view, "Video", name=OBJECT, value=f"${OBJECT}", frameRate=f"{frame_rate:g}")
    if not has_parts or not all(one.is_part for one in labels):
        number = "multiple" if predictions.task == "multi_label" else "single"
        choices = ElementTree.SubElement(view, "Choices", name=CHOICES, toName=OBJECT, choice=number)
        for name in predictions.class_names:
            ElementTree.SubElement(choices, "Choice", value=name)
    ElementTree.indent(view)
    return f"{ElementTree.tostring(view, encoding='unicode')}\n"
