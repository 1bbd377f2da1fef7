"""Does a label for each frame find actions in long videos better than a network of clips does?

Both are CNN+LSTM of optical flow, of one size, with one optimizer, trained on the same made long videos (`synthesize
--long`): one on clips of whole videos with a label for each frame (`readout: every`), in both directions and causal;
one on the cut segments, background among them, with one label a clip. All are scored by `evaluate --timeline` on long
videos held out. `--folder` keeps what is done; a run that was killed goes on.

    python benchmarks/networks/timelines.py --folder /tmp/timelines
"""

import argparse
import csv
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from benchmarks.networks.public_benchmarks import run
from benchmarks.turns import spend
from pipeline.metrics.temporal_detection import describe_thresholds

BACKGROUND = "background"
MODEL = {
    "channels": [16, 32, 64],
    "hidden_size": 64,
    "dropout": 0.2,
    "optimizer": "adamw",
    "learning_rate": 0.002,
    "weight_decay": 0.01,
    "warmup_fraction": 0.1,
}
FRAMES = {"num_frames": 32, "clips_per_video": 8, "batch_size": 4}
NETWORKS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # name -> packed videos, arguments of the network, arguments of the data module
    "frames, both directions": ("frames", {"readout": "every", "bidirectional": True}, FRAMES),
    "frames, causal": ("frames", {"readout": "every"}, FRAMES),
    "clips": ("segments", {"readout": "mean"}, {"num_frames": 16, "batch_size": 32}),
}


def make_videos(folder: Path, num_videos: int) -> None:
    """Makes the long videos, two thirds of them for training, and packs them whole and as segments; unless done."""
    videos = folder / "videos"
    parts = f"--long {num_videos} --long-train {num_videos * 2 // 3} --long-val {num_videos // 9}"
    run("synthesize", "", f"--root {videos} --train 1 --val 0 --test 0 --width 64 --height 48 --fps 10 {parts}")
    write_lists(folder)
    for name, options in (("frames", "videos/long.csv --timelines"), ("segments", "segments.csv")):
        if not (folder / name / "dataset.json").exists():
            run("pack", str(folder / name), f"--annotations {folder}/{options} --short-side 48 --flow")


def write_lists(folder: Path) -> None:
    """Writes segments.csv, the segments and the pauses before them as `background`; and test.csv, those held out."""
    with (folder / "videos" / "long.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    ends: dict[str, str] = {}
    segments = []
    for row in rows:
        row["path"] = f"videos/{row['path']}"
        pause = row | {"label": BACKGROUND, "start": ends.get(row["path"], "0"), "end": row["start"]}
        segments += [pause, row]
        ends[row["path"]] = row["end"]
    for name, kept in (("segments", segments), ("test", [row for row in rows if row["split"] == "test"])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            lines = csv.DictWriter(file, rows[0], lineterminator="\n")
            lines.writeheader()
            lines.writerows(kept)


def measure(name: str, folder: Path, epochs: int) -> str:
    """Trains and scores one of `NETWORKS`, unless done; returns a row of the table."""
    packed, network, clips = NETWORKS[name]
    out = folder / name.replace(", ", "-").replace(" ", "-")
    recipe = {
        "seed_everything": 0,
        "model": {"class_path": "CNNLSTM", "init_args": MODEL | network},
        "data": {
            "class_path": "ShardedVideoDataModule",
            "init_args": {
                "root": str(folder / packed),
                "stream": "flow",
                "frame_interval": 1,
                "crop_size": 48,
                "flip_probability": 0.0,
                "num_workers": 1,
                **clips,
            },
        },
        "trainer": {
            "accelerator": "cpu",
            "max_epochs": epochs,
            "gradient_clip_val": 1.0,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "default_root_dir": str(out / "run"),
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.yaml").write_text(json.dumps(recipe, indent=2))  # which is YAML too
    if not (out / "result" / "report.json").exists():
        run("fit", "", f"--config {out / 'recipe.yaml'} --ckpt_path last")
        lists = f"--annotations {folder / 'test.csv'} --background {BACKGROUND}"
        run("evaluate", "", f"--timeline --checkpoint {out / 'run' / 'last.ckpt'} {lists} --out {out / 'result'}")
    return table_row(name, json.loads((out / "result" / "report.json").read_text()))


def table_row(name: str, report: dict[str, Any]) -> str:
    """A row of the table: detections, mean average precision by tIoU, its mean with interval, and that of frames."""
    mean, frames = report["mean_average_precision"], report["frames"]["mean_average_precision"]
    interval = " ({:.1%} to {:.1%})".format(*report["interval"]) if report["interval"] else ""  # None of few videos
    by_tiou = describe_thresholds(report)
    return f"| {name} | {report['num_detections']} | {by_tiou} | {mean:.1%}{interval} | {frames:.1%} |"


def main() -> None:
    """Measures all networks, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="for videos, packed videos, runs and results")
    parser.add_argument("--network", choices=NETWORKS, nargs="+", default=list(NETWORKS))
    parser.add_argument("--videos", type=positive, default=90, help="long videos to make")
    parser.add_argument("--epochs", type=positive, default=40)
    options = parser.parse_args()
    print_heading("torch", "opencv-contrib-python-headless")
    make_videos(options.folder, options.videos)
    for name in options.network:
        rows: list[str] = []
        took = spend(lambda name=name, rows=rows: rows.append(measure(name, options.folder, options.epochs)))
        print(f"{rows[0]} {took.wall:.0f} s, {took.processor:.0f} s of processors", flush=True)


if __name__ == "__main__":
    main()
