"""Several sizes from one run: each as if packed alone, a video in all or in none, and whole after any interruption."""

import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from datamodules.dataset.dataset_index import DatasetIndex, ShardFormatError
from pipeline.__main__ import main
from pipeline.dataset_tools.index import index
from pipeline.dataset_tools.synthesize import SynthesizeOptions, synthesize
from pipeline.inference.trained_checkpoint import open_checkpoint
from pipeline.metrics.predictions import provenance_of
from pipeline.packing.output_folder import PackError
from pipeline.packing.pack import pack
from pipeline.packing.pack_options import PackOptions
from tests.pipeline.conftest import fit
from tests.pipeline.gray_videos import (
    NUM_VIDEOS,
    command,
    digests,
    keys,
    make_endless,
    make_video,
    reasons,
    wait_for,
)

Capture = pytest.CaptureFixture[str]
SMALLER = "short16"


def all_digests(root: Path) -> dict[str, dict[str, str]]:
    return {"": digests(root), SMALLER: digests(root / SMALLER)}


@pytest.fixture(scope="module")
def packed(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gray videos at short sides 24 and 16. Read-only."""
    out = tmp_path_factory.mktemp("packed") / "out"
    pack(PackOptions(out, [originals / "list.csv"], short_side=[16, 24], videos_per_shard=3, fps=10.0, processes=2))
    return out


def test_each_rendition_is_what_a_run_with_its_size_alone_makes(originals: Path, packed: Path, tmp_path: Path) -> None:
    for side, folder in ((24, packed), (16, packed / SMALLER)):
        alone = tmp_path / str(side) / "out"
        pack(PackOptions(alone, [originals / "list.csv"], short_side=side, videos_per_shard=3, fps=10.0, processes=1))
        expected, found = digests(alone), digests(folder)
        assert {name for name in expected if found.get(name) != expected[name]} <= {
            "dataset.json",  # which names the other rendition
            "quarantine.csv",
            "split_guard.csv",
        }
        index = DatasetIndex.open(folder)
        assert index.identity == DatasetIndex.open(alone).identity
        assert {index.entry(row).height for row in range(len(index))} == {side}


def test_dataset_json_lists_the_renditions(packed: Path) -> None:
    content = json.loads((packed / "dataset.json").read_text())
    assert content["renditions"] == [{"short_side": 24, "folder": "."}, {"short_side": 16, "folder": SMALLER}]
    smaller = DatasetIndex.open(packed / SMALLER).manifest
    assert (smaller.encode["short_side"], smaller.renditions) == (16, [])
    assert smaller.family == content["identity"] != smaller.identity
    assert not (packed / SMALLER / "quarantine.csv").exists()


def test_a_video_is_kept_in_all_or_refused_in_all(videos: Path, tmp_path: Path, capsys: Capture) -> None:
    (videos / "run" / "3.mp4").write_bytes(make_video(3, num_frames=2))
    (videos / "walk" / "2.mp4").unlink()
    whole = (videos / "run" / "5.mp4").read_bytes()
    (videos / "run" / "5.mp4").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    words = command(out, videos, "--short-side", "24", "16", "--min-frames", "5")[3:]
    assert main(words) == 0
    assert reasons(out).keys() == {"run/3.mp4", "walk/2.mp4", "run/5.mp4"}
    assert keys(out) == keys(out / SMALLER)
    assert len(keys(out)) == NUM_VIDEOS - 3
    printed = capsys.readouterr()
    assert f"wrote {out / SMALLER}, the same videos" in printed.out
    assert "24 + 16" in printed.out  # the heading of the sizes
    assert "0.0 + 0.0" in printed.out
    assert " 0.0 + 0.0 MB written" in printed.err
    assert main(["verify", "--data", str(out)]) == 0
    assert f"10 shards and 9 videos of {out} in 2 renditions" in " ".join(capsys.readouterr().out.split())


def test_finished_renditions_are_kept_and_damaged_ones_made_again(
    originals: Path, packed: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(packed, tmp_path / "out")
    tars = sorted(out.glob("*.tar"))
    os.truncate(out / SMALLER / tars[0].name, 5000)
    (out / SMALLER / tars[1].name).unlink()
    os.truncate(tars[2], 5000)
    before = tars[3].stat().st_ino
    pack(PackOptions(out, [originals / "list.csv"], short_side=[24, 16], videos_per_shard=3, fps=10.0))
    assert all_digests(out) == all_digests(packed)
    assert tars[3].stat().st_ino == before
    with pytest.raises(PackError, match=r"short_side \[24, 16\] there, 24 now"):
        pack(PackOptions(out, [originals / "list.csv"], short_side=24, videos_per_shard=3, fps=10.0))


def test_killed_in_the_middle_neither_rendition_is_a_dataset(videos: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    good = (videos / "run" / "5.mp4").read_bytes()
    make_endless(videos / "run" / "5.mp4")
    words = command(out, videos, "--short-side", "24", "16", "--processes", "1")
    run = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    wait_for(lambda: list(out.glob(".*.partial")) and list((out / SMALLER).glob(".*.partial")))
    wait_for(lambda: len(list(out.glob("*.tar"))) >= 2)
    run.send_signal(signal.SIGKILL)
    run.wait()
    for folder in (out, out / SMALLER):
        with pytest.raises(ShardFormatError, match="run pack again to finish it"):
            DatasetIndex.open(folder)
    (videos / "run" / "5.mp4").write_bytes(good)
    subprocess.run(words, check=True, capture_output=True)
    assert all_digests(out) == all_digests(packed)
    assert not list(out.rglob("*.partial"))


@pytest.mark.slow
def test_killed_at_any_moment(videos: Path, packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = command(out, videos, "--short-side", "24", "16")
    for delay in np.random.default_rng(0).uniform(0.5, 5, 10):
        run = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        with suppress(subprocess.TimeoutExpired):
            run.wait(delay)
        run.kill()
        run.wait()
        if (out / "dataset.json").exists():
            assert keys(out) == keys(out / SMALLER)
            assert len(keys(out)) == NUM_VIDEOS
    subprocess.run(words, check=True, capture_output=True)
    assert all_digests(out) == all_digests(packed)


def test_a_full_disk_leaves_no_half_rendition(originals: Path, packed: Path, tmp_path: Path) -> None:
    """The limit on the size of files stands for the disk; the tars have 10 kB, and only the first is not written."""
    words = " ".join(f"'{word}'" for word in command(tmp_path / "out", originals, "--short-side", "24", "16"))
    done = subprocess.run(["bash", "-c", f"ulimit -f 8; exec {words}"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "no room left to write (File too large)" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert not list((tmp_path / "out").rglob("dataset.json"))
    subprocess.run(command(tmp_path / "out", originals, "--short-side", "16", "24"), capture_output=True, check=True)
    assert all_digests(tmp_path / "out") == all_digests(packed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"short_side": [256, 128], "copy": True}, "short_side=256 128: --copy stores videos as they are"),
        ({"short_side": 128, "copy": True}, "short_side=128: --copy stores videos as they are"),
        ({"crf": 30, "copy": True}, "crf=30: --copy stores videos as they are"),
        ({"crf": 52}, "crf=52: must be from 0 to 51"),
        ({"short_side": [128, 128]}, "short_side=128 128: give each size once"),
        ({"short_side": []}, "short_side is empty"),
        ({"short_side": [256, 8]}, "short_side=8: must be at least 16"),
    ],
)
def test_sizes_that_cannot_be(originals: Path, tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack(PackOptions(tmp_path / "out", [originals / "list.csv"], **options))  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_in_the_place_of_a_rendition(originals: Path, tmp_path: Path) -> None:
    (tmp_path / "out" / SMALLER).mkdir(parents=True)
    (tmp_path / "out" / SMALLER / "mine.tar").touch()
    with pytest.raises(PackError, match=r"short16 holds mine.tar, and there is no record of the run"):
        pack(PackOptions(tmp_path / "out", [originals / "list.csv"], short_side=[24, 16]))


def test_strict_makes_no_dataset_of_any_size(packed: Path, originals: Path, tmp_path: Path) -> None:
    """Groups of the gray videos are on both sides; a dataset that was made before without strict is left alone."""
    lines = (originals / "list.csv").read_text().splitlines()
    (tmp_path / "list.csv").write_text("\n".join([lines[0], *(line.replace(",g1,", ",g0,") for line in lines[1:])]))
    for expected in (0, 2):
        with pytest.raises(PackError, match="the split guard found"):
            pack(PackOptions(tmp_path / "out", [tmp_path / "list.csv"], originals, short_side=[24, 16], strict=True))
        assert len(list((tmp_path / "out").rglob("dataset.json"))) == expected
        pack(PackOptions(tmp_path / "out", [tmp_path / "list.csv"], originals, short_side=[24, 16]))


def test_verify_holds_the_renditions_against_each_other(
    packed: Path, originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(spoil: str) -> str:
        data = shutil.copytree(packed, tmp_path / spoil)
        small = data / SMALLER
        if spoil == "missing":
            shutil.rmtree(small)
        elif spoil == "shard":
            next(small.glob("*.tar")).unlink()
        elif spoil == "other":
            shutil.rmtree(small)
            pack(PackOptions(small, [originals / "list.csv"], name="out", short_side=16, fps=10.0, min_frames=2))
        elif spoil == "fewer":
            pack(PackOptions(tmp_path / "fewer16", [originals / "list.csv"], name="out", short_side=16, fps=5.0))
            shutil.rmtree(small)
            shutil.move(tmp_path / "fewer16", small)
        capsys.readouterr()
        assert main(["verify", "--data", str(data)]) != 0
        return capsys.readouterr().out

    assert "short16: there is no whole dataset of this rendition" in wrong("missing")
    assert "short16/out-" in wrong("shard")
    assert "short16/dataset.json: is not of a rendition of the dataset in dataset.json" in wrong("other")
    assert "short16/index.parquet: num_frames of 12 videos is not as in index.parquet: " in wrong("fewer")


def test_index_keeps_what_is_known_of_renditions(packed: Path, tmp_path: Path) -> None:
    data = shutil.copytree(packed, tmp_path / "data")
    before = all_digests(data)
    index([str(data)])
    index([str(data / SMALLER)])
    assert all_digests(data) == before


def test_a_checkpoint_goes_on_with_its_rendition_and_is_judged_on_any(tmp_path: Path, capsys: Capture) -> None:
    synthesize(SynthesizeOptions(tmp_path / "videos", 1, train=1, val=1, test=1, num_frames=16, width=64, height=48))
    lists = [tmp_path / "videos" / f"{split}.csv" for split in ("train", "val", "test")]
    data = tmp_path / "data"
    pack(PackOptions(data, lists, tmp_path / "videos", short_side=[48, 32], processes=1))
    checkpoint = fit(data, tmp_path / "run", "--data.resize=32")
    trained = open_checkpoint(checkpoint)
    small = DatasetIndex.open(data / "short32")
    assert trained.dataset["rendition"] == 32
    assert trained.dataset["identity"] == small.identity

    assert fit(data, tmp_path / "on", "--data.rendition=32", f"--ckpt_path={checkpoint}", "--trainer.max_epochs=2")
    capsys.readouterr()
    with pytest.raises(ValueError, match=r"the checkpoint was trained on 32: set data.init_args.rendition to 32"):
        fit(data, tmp_path / "off", "--data.rendition=48", f"--ckpt_path={checkpoint}", "--trainer.max_epochs=2")

    words = ["evaluate", "--checkpoint", str(checkpoint), "--data", str(data), "--num-clips", "1", "--num-workers", "0"]
    words += ["--accelerator", "cpu", "--out", str(tmp_path / "results")]
    for more, side in (((), 32), (("--rendition", "48"), 48), (("--rendition", "auto", "--resize", "40"), 48)):
        assert main([*words, *more]) == 0
        assert read_provenance(tmp_path / "results" / "predictions.parquet")["rendition"] == side
    capsys.readouterr()
    assert main([*words, "--split", "train", "--rendition", "48"]) != 0  # seen, though in another rendition
    assert "was trained on 8 of its 8 videos" in capsys.readouterr().err
    assert main([*words, "--rendition", "96"]) != 0
    assert "rendition=96: " in capsys.readouterr().err


def read_provenance(path: Path) -> dict[str, object]:
    return dict(provenance_of(pq.read_schema(path), path))
