"""Gestures: the commands of docs/datasets/gestures.md, from folders of frames in Jester's form to a webcam's file."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from datamodules.transforms.flip_safety import unmirrored_labels
from datamodules.video.mp4_writer import encode_frames
from tests.conftest import REPOSITORY
from tests.docs_commands import GESTURES, commands
from tests.jester_folders import DRAWN, LABELS, draw_gesture, write_jester

# The recipes made small: networks, clips and steps for one processor, and weights that need no download.
SMALL = (
    "--trainer.accelerator cpu --trainer.precision 32-true --trainer.enable_progress_bar false "
    "--trainer.check_val_every_n_epoch 5 --data.init_args.num_workers 0 --data.init_args.batch_size 12"
)
SMALL_LRCN = (
    f"{SMALL} --trainer.max_epochs 15 --data.init_args.num_frames 8 --data.init_args.resize [32,32] "
    "--data.init_args.crop_size 32 --model.init_args.encoder small --model.init_args.encoder_weights none "
    "--model.init_args.channels [16,32] --model.init_args.hidden_size 64 --model.init_args.dropout 0 "
    "--model.init_args.learning_rate 0.01 --model.init_args.scale_learning_rate_from null"
)
SMALL_C3D = (
    f"{SMALL} --trainer.max_epochs 1 --data.init_args.resize [32,32] --data.init_args.crop_size 32 "
    "--model.init_args.crop_size 32 --model.init_args.width 2"
)
RECIPES = {"lrcn_jester": SMALL_LRCN, "c3d_jester": SMALL_C3D}
MIRRORED = {
    "Swiping Left": "Swiping Right",
    "Sliding Two Fingers Left": "Sliding Two Fingers Right",
    "Turning Hand Clockwise": "Turning Hand Counterclockwise",
}


def test_the_six_gestures_that_mirroring_changes_are_never_mirrored() -> None:
    found = {LABELS[label] for label in unmirrored_labels(LABELS, 0.5, "keep")}
    assert len(LABELS) == 27
    assert found == {*MIRRORED, *MIRRORED.values()}
    with pytest.raises(ValueError, match="mirroring would turn 'Swiping Left', 'Swiping Right', 'Sliding Two Fingers"):
        unmirrored_labels(LABELS, 0.5, "refuse")
    page = (REPOSITORY / GESTURES).read_text()
    assert all(f"| {name} | {other} |" in page for name, other in MIRRORED.items())


def make_small(line: str) -> str:
    """The command line with the options of its recipe's small form."""
    recipe = Path(line.partition("--config ")[2].split()[0]).stem if "--config " in line else ""
    return f"{line} {RECIPES[recipe]}" if recipe else line


def write_webcam_video(path: Path) -> None:
    """Two gestures and a pause, at 30 frames a second."""
    rng = np.random.default_rng(1)
    parts = [draw_gesture(label, rng, 45) for label in ("Swiping Left", "No gesture", "Swiping Right")]
    path.write_bytes(encode_frames([frame for part in parts for frame in part], 30.0))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_folders_of_frames_to_a_webcam(run: Callable[..., str], copy: Path) -> None:
    write_jester(copy / "jester", train=10, validation=2, test=4)
    write_webcam_video(copy / "jester" / "webcam.mp4")
    printed = {
        line: run(make_small(line), OMP_NUM_THREADS="1") for line in commands((REPOSITORY / GESTURES).read_text())
    }
    reports = {name: json.loads((copy / f"jester/results/{name}/report.json").read_text()) for name in ("lrcn", "c3d")}
    assert [report["num_videos"] for report in reports.values()] == [24, 24]
    # Of 24 videos of six classes 12 right have probability 0.0001 under chance.
    assert reports["lrcn"]["top1"] >= 12 / 24
    video = json.loads((copy / "jester/webcam.json").read_text())
    assert {part["class"] for part in video["stretches"]} <= set(DRAWN)
    assert (video["stretches"][0]["start"], video["stretches"][-1]["end"]) == (0, 4.5)
    blocks = [text for line, text in printed.items() if line.startswith("python -c")]
    assert blocks[0].startswith("from 0.0: gestures right ")
    assert "No gesture" not in blocks[1]
