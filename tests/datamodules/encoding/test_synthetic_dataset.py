"""The synthetic data set on the disk: real files, official lists, the same bytes each time, nothing of others lost."""

import csv
import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from datamodules.encoding.synthetic_dataset import MARKER, SyntheticDatasetOptions, make_synthetic_dataset
from datamodules.encoding.synthetic_scenes import MOTIONS
from datamodules.list_formats.kinetics import read_kinetics_csv
from tests.datamodules.encoding.test_synthetic_scenes import accuracies

SMALL = SyntheticDatasetOptions(seed=3, train=2, val=1, test=1, num_frames=20, width=64, height=48)


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def decode(path: str) -> NDArray[np.uint8]:
    with av.open(path) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("small") / "data"
    make_synthetic_dataset(root, SMALL)
    return root


def test_lists_are_official_and_name_real_files(small: Path) -> None:
    lists = [small / f"{split}.csv" for split in ("train", "val", "test")]
    with lists[0].open(encoding="utf-8") as file:
        assert next(csv.reader(file)) == ["label", "youtube_id", "time_start", "time_end", "split"]
    records = read_kinetics_csv(lists, small).records
    assert [record.split for record in records] == ["train"] * 16 + ["val"] * 8 + ["test"] * 8
    assert [record.label for record in records[:8]] == sorted(MOTIONS)
    assert {record.path for record in records} == {str(path) for path in (small / "videos").glob("*/*.mp4")}
    assert len({record.group for record in records}) == len(records)
    assert all(len(record.group) == 11 for record in records)
    assert {record.time_end - record.time_start for record in records} == {1.0}  # 20 frames at 25 fps, rounded up


def test_files_are_h264_of_the_size_asked(small: Path) -> None:
    path = next((small / "videos" / "growing").iterdir())
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("h264", 25)
    frames = decode(str(path))
    assert frames.shape == (20, 48, 64, 3)
    assert np.abs(np.diff(frames.astype(int), axis=0)).max() > 60  # something moves


def test_two_runs_and_any_number_of_processes_give_the_same_bytes(small: Path, tmp_path: Path) -> None:
    seen: list[None] = []
    written = make_synthetic_dataset(tmp_path / "b", SMALL, processes=2, progress=lambda: seen.append(None))
    assert contents(tmp_path / "b") == contents(small)
    assert len(seen) == 32
    assert written.videos == {"train": 16, "val": 8, "test": 8}
    assert written.num_bytes == sum(path.stat().st_size for path in small.glob("videos/*/*"))


def test_more_videos_change_no_other_and_seeds_differ(small: Path, tmp_path: Path) -> None:
    make_synthetic_dataset(tmp_path / "more", replace(SMALL, train=3, val=0))
    more, before = contents(tmp_path / "more"), contents(small)
    shared = {name for name in before if name.endswith(".mp4")} & more.keys()
    assert len(shared) == 8 * (2 + 1)
    assert all(more[name] == before[name] for name in shared)
    assert not (tmp_path / "more" / "val.csv").exists()
    make_synthetic_dataset(tmp_path / "other", replace(SMALL, seed=4))
    assert not {name for name in contents(tmp_path / "other") if name.endswith(".mp4")} & before.keys()


def test_replaces_its_own_output_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "new" / "data"
    few = replace(SMALL, train=1, val=0, test=0, num_frames=2)
    root.mkdir(parents=True)
    make_synthetic_dataset(root, replace(few, seed=1))
    make_synthetic_dataset(root, replace(few, seed=2))
    assert json.loads((root / MARKER).read_text())["seed"] == 2
    assert len(contents(root)) == 10
    assert list(root.parent.iterdir()) == [root]  # nothing aside is left

    (root / "videos" / "growing" / "mine.mp4").write_bytes(b"mine")
    before = contents(root)
    with pytest.raises(ValueError, match=r"holds 'videos/growing/mine\.mp4', which synthesize did not write"):
        make_synthetic_dataset(root, replace(few, seed=3))
    assert contents(root) == before

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="name a new or empty folder"):
        make_synthetic_dataset(foreign, few)
    with pytest.raises(ValueError, match="is a file"):
        make_synthetic_dataset(foreign / "thesis.tex", few)


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_synthetic_dataset(tmp_path / "data", SMALL, progress=stop)
    assert not list(tmp_path.iterdir())


def test_a_killed_process_is_told_in_a_sentence(tmp_path: Path) -> None:
    def kill() -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(OSError, match="a process that makes videos was killed"):
        make_synthetic_dataset(tmp_path / "data", replace(SMALL, train=40), processes=2, progress=kill)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": -1}, "train=-1: give the number"),
        ({"train": 0, "val": 0, "test": 0}, "there would be no video"),
        ({"width": 65}, "width=65: must be even"),
        ({"height": 16}, "height=16: must be even and at least 32"),
        ({"width": 64, "height": 96}, "width=64, height=96: must not be higher than wide"),
        ({"num_frames": 1}, "num_frames=1: must be at least 2"),
        ({"fps": 0.0}, "fps=0.0: must be"),
        ({"fps": float("nan")}, "fps=nan: must be"),
    ],
)
def test_options_out_of_range(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticDatasetOptions(**arguments)  # type: ignore[arg-type]


def test_no_process_makes_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="processes=0: must be at least 1"):
        make_synthetic_dataset(tmp_path / "data", SMALL, processes=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_decoded_single_frames_say_nothing_about_the_class(tmp_path: Path) -> None:
    make_synthetic_dataset(tmp_path, SyntheticDatasetOptions(train=60, val=0, test=40, width=64, height=48))
    rng = np.random.default_rng(0)
    pixels, labels = [], []
    for record in read_kinetics_csv([tmp_path / "train.csv", tmp_path / "test.csv"], tmp_path).records:
        frames = decode(record.path)
        pixels.append(frames[rng.integers(len(frames))].astype(float))
        labels.append(sorted(MOTIONS).index(record.label))
    linear, nearest = accuracies(np.stack(pixels), np.array(labels), num_train=480)
    limit = 1 / 8 + 3 * np.sqrt(1 / 8 * 7 / 8 / 320)  # 0.18
    assert linear < limit
    assert nearest < limit
