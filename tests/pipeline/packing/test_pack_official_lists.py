"""Small videos in the official layouts, packed by their lists from the command line: frames, labels, groups, times."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.encoding.transcoding import encode_frames
from datamodules.list_formats.formats import FORMATS
from datamodules.video.decoding import decode_frames
from pipeline.__main__ import main
from tests.pipeline.gray_videos import reasons

NUM_FRAMES, RATE, STEP = 30, 10.0, 8  # three seconds; the level of frame n is 8 n


def save_video(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = [np.full((32, 48, 3), STEP * number, np.uint8) for number in range(NUM_FRAMES)]
    path.write_bytes(encode_frames(frames, fps=RATE))
    return path


def save_text(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def packed(tmp_path: Path) -> Callable[..., DatasetIndex]:
    """Packs the lists in the folder `lists` with the videos in `videos`, from the command line."""

    def pack(*arguments: str, lists: str = "lists") -> DatasetIndex:
        paths = ["--annotations", str(tmp_path / lists), "--videos", str(tmp_path / "videos")]
        assert main(["pack", *arguments, *paths, "--out", str(tmp_path / "out"), "--processes", "1"]) == 0
        assert main(["verify", str(tmp_path / "out")]) == 0
        return DatasetIndex.open(tmp_path / "out")

    return pack


def entries(index: DatasetIndex) -> dict[str, tuple[str, str, str]]:
    """Key -> class, split and group."""
    found = [index.entry(row) for row in range(len(index))]
    return {entry.key: (index.classes[entry.label], entry.split, entry.group) for entry in found}


def source_frames(index: DatasetIndex) -> dict[str, list[int]]:
    """Key -> the numbers of the frames of the source that its video shows."""
    found = {}
    for row in range(len(index)):
        entry = index.entry(row)
        levels = decode_frames(index.read_video(row), range(entry.num_frames)).mean(axis=(1, 2, 3))
        found[entry.key] = [round(float(level) / STEP) for level in levels]
    return found


CHARADES = f"{FORMATS['charades'].example.splitlines()[0]}\n"


@pytest.fixture
def charades(tmp_path: Path) -> Path:
    rows = {
        "train": ["46GP8,,,,,,,,,c092 1.00 2.00;c147 0.00 1.50,3.00", "N11GT,,,,,,,,,c000 0.50 9.00,3.00"],
        "test": ["0BX9N,,,,,,,,,c147 2.00 3.00,3.00", "LEERE,,,,,,,,,,3.00"],
    }
    for split, lines in rows.items():
        save_text(tmp_path / "lists" / f"Charades_v1_{split}.csv", CHARADES + "\n".join(lines) + "\n")
    classes = "c000 Holding some clothes\nc092 Watching something\nc147 Cooking something\n"
    save_text(tmp_path / "lists" / "Charades_v1_classes.txt", classes)
    for name in ("46GP8", "N11GT", "0BX9N", "LEERE"):
        save_video(tmp_path / "videos" / f"{name}.mp4")
    return tmp_path


def test_charades_as_whole_videos_with_several_labels(charades: Path, packed: Callable[..., DatasetIndex]) -> None:
    index = packed("--format", "charades")
    assert (index.task, index.classes) == (
        "multi_label",
        ["Holding some clothes", "Watching something", "Cooking something"],
    )
    found = {index.entry(row).key: (index.labels(row), index.entry(row).split) for row in range(len(index))}
    assert {key: ([index.classes[label] for label in labels], split) for key, (labels, split) in found.items()} == {
        "46GP8": (["Watching something", "Cooking something"], "train"),
        "N11GT": (["Holding some clothes"], "train"),
        "0BX9N": (["Cooking something"], "test"),
    }
    assert all(numbers == list(range(NUM_FRAMES)) for numbers in source_frames(index).values())


def test_charades_as_segments(charades: Path, packed: Callable[..., DatasetIndex]) -> None:
    index = packed("--trimmed")
    assert index.task == "single_label"
    assert entries(index) == {
        "46GP8_1000ms_2000ms": ("Watching something", "train", "46GP8"),
        "46GP8_0ms_1500ms": ("Cooking something", "train", "46GP8"),
        "N11GT_500ms_3000ms": ("Holding some clothes", "train", "N11GT"),
        "0BX9N_2000ms_3000ms": ("Cooking something", "test", "0BX9N"),
    }
    assert source_frames(index) == {
        "46GP8_1000ms_2000ms": list(range(10, 20)),
        "46GP8_0ms_1500ms": list(range(15)),
        "N11GT_500ms_3000ms": list(range(5, 30)),
        "0BX9N_2000ms_3000ms": list(range(20, 30)),
    }
    times = {entry.key: (entry.source_start, entry.source_end) for entry in map(index.entry, range(len(index)))}
    assert times["46GP8_1000ms_2000ms"] == pytest.approx((1.0, 2.0))


def test_activitynet(tmp_path: Path, packed: Callable[..., DatasetIndex]) -> None:
    def video(subset: str, *segments: tuple[str, float, float]) -> dict[str, Any]:
        annotations = [{"label": label, "segment": [start, end]} for label, start, end in segments]
        return {"subset": subset, "duration": 3.0, "annotations": annotations, "resolution": "48x32"}

    database = {
        "5n7NCViB5TU": video("training", ("Discus throw", 0.5, 1.0), ("Discus throw", 1.5, 4.0)),
        "aaaaaaaaaaa": video("validation", ("Archery", 0.0, 2.0), ("Archery", 5.0, 6.0)),
        "bbbbbbbbbbb": video("testing"),
    }
    save_text(tmp_path / "lists.json", json.dumps({"database": database, "version": "VERSION 1.3"}))
    for name in ("5n7NCViB5TU", "aaaaaaaaaaa"):
        save_video(tmp_path / "videos" / f"v_{name}.mp4")
    index = packed(lists="lists.json")
    assert entries(index) == {
        "5n7NCViB5TU_500ms_1000ms": ("Discus throw", "train", "5n7NCViB5TU"),
        "5n7NCViB5TU_1500ms_3000ms": ("Discus throw", "train", "5n7NCViB5TU"),
        "aaaaaaaaaaa_0ms_2000ms": ("Archery", "val", "aaaaaaaaaaa"),
    }
    assert source_frames(index)["5n7NCViB5TU_1500ms_3000ms"] == list(range(15, 30))
    assert reasons(tmp_path / "out") == {"v_aaaaaaaaaaa.mp4": "out of range"}  # the segment after the end


def test_diving48(tmp_path: Path, packed: Callable[..., DatasetIndex]) -> None:
    clips = [json.loads(line) for line in FORMATS["diving48"].example.splitlines()]
    save_text(tmp_path / "lists" / "Diving48_V2_train.json", json.dumps(clips))
    save_text(tmp_path / "lists" / "Diving48_V2_test.json", '[{"vid_name":"_x_00001","label":1}]')
    vocabulary = [["Back", "15som", "05Twis", "FREE"], ["Back", "15som", "15Twis", "FREE"]]
    save_text(tmp_path / "lists" / "Diving48_vocab.json", json.dumps(vocabulary))
    for name in (*(clip["vid_name"] for clip in clips), "_x_00001"):
        save_video(tmp_path / "videos" / "rgb" / f"{name}.mp4")
    index = packed("--format", "diving48")
    assert entries(index) == {
        **{clip["vid_name"]: ("Back_15som_05Twis_FREE", "train", "-mmq0PT-u8k") for clip in clips},
        "_x_00001": ("Back_15som_15Twis_FREE", "test", "_x"),
    }
    assert {len(numbers) for numbers in source_frames(index).values()} == {NUM_FRAMES}


def test_epic_kitchens(tmp_path: Path, packed: Callable[..., DatasetIndex]) -> None:
    header = FORMATS["epic_kitchens"].example.splitlines()[0]
    rows = [
        "P01_01_0,P01,P01_01,,00:00:00.50,00:00:01.50,5,15,open door,open,3,door,3,['door'],[3]",
        "P01_01_1,P01,P01_01,,00:00:01.00,00:00:03.00,10,30,turn on light,turn-on,6,light,4,\"['light', 'a']\",[4]",
    ]
    save_text(tmp_path / "lists" / "EPIC_100_train.csv", "\n".join([header, *rows, ""]))
    for part, names in {"verb": ("take", "put", "wash", "open", "close", "insert", "turn-on"),
                        "noun": ("tap", "spoon", "plate", "door", "light")}.items():  # fmt: skip
        lines = [f'{number},"{name}","[\'{name}\']","any"' for number, name in enumerate(names)]
        save_text(
            tmp_path / "lists" / f"EPIC_100_{part}_classes.csv", "\n".join(["id,key,instances,category", *lines, ""])
        )
    save_video(tmp_path / "videos" / "P01" / "videos" / "P01_01.MP4")
    index = packed("--label-field", "action")
    assert entries(index) == {
        "P01_01_0": ("open door", "train", "P01"),
        "P01_01_1": ("turn-on light", "train", "P01"),
    }
    assert source_frames(index) == {"P01_01_0": list(range(5, 15)), "P01_01_1": list(range(10, 30))}


def test_label_studio(tmp_path: Path, packed: Callable[..., DatasetIndex]) -> None:
    def region(start: int, end: int, label: str) -> dict[str, Any]:
        return {
            "value": {"ranges": [{"start": start, "end": end}], "timelinelabels": [label]},
            "from_name": "actions",
            "to_name": "video",
            "type": "timelinelabels",
        }

    results = [region(1, 10, "wave"), region(11, 30, "run")]
    task = {"id": 1, "data": {"video": "/data/upload/1/3d3ad63e-a.mp4"}, "annotations": [{"result": results}]}
    save_text(tmp_path / "lists.json", json.dumps([task]))
    save_video(tmp_path / "videos" / "a.mp4")
    index = packed("--format", "label_studio", "--annotation-fps", "10", "--split", "train", lists="lists.json")
    assert {key: values[0] for key, values in entries(index).items()} == {
        "3d3ad63e-a_0ms_1000ms": "wave",
        "3d3ad63e-a_1000ms_3000ms": "run",
    }
    assert source_frames(index) == {
        "3d3ad63e-a_0ms_1000ms": list(range(10)),
        "3d3ad63e-a_1000ms_3000ms": list(range(10, 30)),
    }


def test_fiftyone(tmp_path: Path, packed: Callable[..., DatasetIndex]) -> None:
    labels = {"a": [{"label": 0, "support": [1, 10]}, {"label": 1, "timestamps": [1.0, 3.0]}], "b": None}
    save_text(tmp_path / "lists" / "labels.json", json.dumps({"classes": ["wave", "run"], "labels": labels}))
    save_video(tmp_path / "videos" / "data" / "a.mp4")
    index = packed("--split", "train", lists="lists/labels.json")
    assert source_frames(index) == {"a_f0_f10": list(range(10)), "a_1000ms_3000ms": list(range(10, 30))}
    assert index.classes == ["wave", "run"]


def test_jester(tmp_path: Path, packed: Callable[..., DatasetIndex]) -> None:
    save_text(tmp_path / "lists" / "labels.csv", "Swiping Left\nDrumming Fingers\nNo gesture\n")
    save_text(tmp_path / "lists" / "train.csv", "34870;Drumming Fingers\n56557;Swiping Left\n")
    save_text(tmp_path / "lists" / "validation.csv", "9;No gesture\n")
    for number in ("34870", "56557", "9"):
        folder = tmp_path / "videos" / "20bn-jester-v1" / number
        folder.mkdir(parents=True)
        for frame in range(12):
            Image.new("RGB", (48, 32), (STEP * frame,) * 3).save(folder / f"{frame + 1:05d}.jpg", quality=95)
    index = packed("--format", "jester")
    assert {key: values[:2] for key, values in entries(index).items()} == {
        "34870": ("Drumming Fingers", "train"),
        "56557": ("Swiping Left", "train"),
        "9": ("No gesture", "val"),
    }
    assert index.classes == ["Swiping Left", "Drumming Fingers", "No gesture"]
    assert {index.entry(row).fps for row in range(len(index))} == {12.0}
    assert source_frames(index)["9"] == list(range(12))
