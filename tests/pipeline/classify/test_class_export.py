"""`classify --out` and packed datasets: the scores that `classify` prints, resumable, of files and of their copies."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.__main__ import main
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.linear.linear import linear
from pipeline.linear.linear_options import LinearOptions
from pipeline.metrics.predictions import provenance_of, read_predictions
from tests.pipeline.gray_videos import make_video

CLIPS = ["--num-clips", "2", "--num-workers", "0", "--accelerator", "cpu"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No results of inspections of other tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def copies(originals, tmp_path_factory):
    """The twelve gray videos packed as they are, without labels. Read-only."""
    out = tmp_path_factory.mktemp("copies") / "shards"
    words = ["--format", "files", "--videos", str(originals), "--copy", "--processes", "1"]
    assert main(["pack", *words, "--out", str(out)]) == 0
    return out


def printed(capsys, *words):
    """The probabilities of all classes by the video's name, as `classify --json` prints them."""
    capsys.readouterr()
    assert main(["classify", *map(str, words), "--num-clips", "2", "--json", "--top", "8"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return {line["video"]: {one["class"]: one["probability"] for one in line["top"]} for line in lines}


def test_the_file_has_what_is_printed(motion_checkpoint, originals, copies, tmp_path, capsys):
    """Of plain files and of the packed copies."""
    checkpoint = ["--checkpoint", motion_checkpoint]
    expected = printed(capsys, originals, *checkpoint)
    packed = printed(capsys, copies, *checkpoint)
    assert len(expected) == len(packed) == 12
    for video, classes in packed.items():
        key = video.removeprefix(f"{copies}/")
        assert classes == pytest.approx(expected[f"{originals}/{key.replace('_', '/')}.mp4"], abs=2e-6)
    results = []
    for name, source in (("plain", originals), ("packed", copies)):
        out = tmp_path / f"{name}.parquet"
        assert main(["classify", str(source), *map(str, checkpoint), *CLIPS, "--out", str(out), "--top", "2"]) == 0
        scores, table = read_predictions(out)
        assert table.column_names == ["key", "path", "top1", "top2", "scores"]
        names = provenance_of(table.schema, out)["classes"]
        for row, path in zip(scores, table.column("path").to_pylist(), strict=True):
            assert dict(zip(names, row.tolist(), strict=True)) == pytest.approx(
                expected[f"{originals}/{path}"], abs=2e-6
            )
        order = np.argsort(-scores, axis=1)[:, 0]
        assert table.column("top1").to_pylist() == [names[label] for label in order]
        results.append(table.sort_by("key").drop_columns("scores").to_pylist())
    assert results[0] == results[1]


def test_bad_files_are_listed_and_the_same_again_is_left(motion_checkpoint, videos, tmp_path, capsys):
    (videos / "none.mp4").write_bytes(b"no video")
    out = tmp_path / "scores.parquet"
    words = ["classify", str(videos), "--checkpoint", str(motion_checkpoint), *CLIPS, "--out", str(out)]
    assert main(words) == 0
    assert "the classes of 12 videos (1 is left out, see" in capsys.readouterr().out
    assert "none.mp4" in (tmp_path / "scores.parquet.quarantine.csv").read_text()
    assert main(words) == 0
    assert "is there already" in capsys.readouterr().out
    (videos / "new.mp4").write_bytes(make_video(3))
    assert main(words) != 0
    assert "holds scores with another dataset_identity" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    assert pq.read_metadata(out).num_rows == 13


def test_a_linear_classifier(motion_checkpoint, motion_dataset, originals, tmp_path, capsys):
    for split in ("train", "test"):
        options = {"split": split, "clip_step": 8, "num_workers": 0, "accelerator": "cpu"}
        features(FeatureOptions(motion_checkpoint, motion_dataset, out=tmp_path / split, **options))
    linear(LinearOptions(tmp_path / "out", tmp_path / "train", tmp_path / "test"))
    head = ["--checkpoint", str(motion_checkpoint), "--linear", str(tmp_path / "out" / "weights.safetensors")]
    expected = printed(capsys, originals, *head)
    out = tmp_path / "scores.parquet"
    assert (
        main(["classify", str(originals), *head, "--num-workers", "0", "--accelerator", "cpu", "--out", str(out)]) == 0
    )
    scores, table = read_predictions(out)
    names = provenance_of(table.schema, out)["classes"]
    for row, path in zip(scores, table.column("path").to_pylist(), strict=True):
        assert dict(zip(names, row.tolist(), strict=True)) == pytest.approx(expected[f"{originals}/{path}"], abs=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "a.csv"], "scores are written as Parquet"),
        (["--out", "a.parquet", "--timeline"], "timeline=True: is for what is printed"),
        (["--devices", "2"], "devices=2: is for files of scores; give --out too"),
    ],
)
def test_one_sentence_says_what_is_wrong(motion_checkpoint, originals, tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["classify", str(originals), "--checkpoint", str(motion_checkpoint), *words]) != 0
    assert message in capsys.readouterr().err
