"""Comparing and fusing results: by hand, from files, and what does not go together."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.__main__ import main
from pipeline.evaluation.compare import compare_results
from pipeline.evaluation.fuse import fused_scores
from pipeline.metrics.scored_videos import ScoredVideos, align, read_scored_videos
from pipeline.report.write_results import FILES, write_results
from tests.pipeline.metrics.made_results import made


def answers(given, labels=(0, 0, 1, 1), **changes):
    """Videos a to d that got these classes, with probability 0.8."""
    scores = np.full((len(given), 2), 0.2, np.float32)
    scores[np.arange(len(given)), given] = 0.8
    about = {"scores": "probability", "classes": ["x", "y"], "overlap": None}
    keys = list("abcd")[: len(given)]
    return ScoredVideos(scores, np.array(labels[: len(given)]), ["x", "y"], keys, keys, about)._replace(**changes)


def test_a_comparison_by_hand():
    told = compare_results(answers([0, 1, 1, 0]), answers([0, 0, 0, 0]))
    assert told["top1"]["first"] == told["top1"]["second"] == told["mean_class_accuracy"]["second"] == 0.5
    assert told["top1"]["difference"] == 0
    assert told["mcnemar"] == {"only_first": 1, "only_second": 1, "p_value": 1.0}
    assert told["classes"] == [
        {"class": "x", "videos": 2, "first": 1, "second": 2},
        {"class": "y", "videos": 2, "first": 1, "second": 0},
    ]
    assert told["flips"] == [
        {"key": "b", "label": "x", "first": "y", "second": "x", "right": "second"},
        {"key": "c", "label": "y", "first": "y", "second": "x", "right": "first"},
    ]
    lost = answers([0, 1, 1, 0])
    lost.scores[0] = np.nan
    assert compare_results(lost, answers([0, 1, 1, 0]))["missing"] == {"first": 1, "second": 0}
    assert compare_results(lost, answers([0, 1, 1, 0]))["flips"][0] | {"key": ""} == {
        "key": "", "label": "x", "first": None, "second": "x", "right": "second"
    }  # fmt: skip


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Folders of a poor and a good result on the same 120 videos, the good one in another order."""
    folder = tmp_path_factory.mktemp("two")
    poor, good = made(6, 120, 1, 0.6), made(6, 120, 2, 3.0)
    order = np.random.default_rng(3).permutation(120)
    turned = good._replace(
        scores=good.scores[order],
        labels=good.labels[order],
        keys=[good.keys[n] for n in order],
        groups=[good.groups[n] for n in order],
    )
    write_results(folder / "poor", poor, "poor on made")
    write_results(folder / "good", turned, "good on made")
    return folder / "poor", folder / "good", poor, good


def test_compare_says_which_is_better(two, capsys):
    first, second, poor, good = two
    assert main(["compare", str(first), str(second)]) == 0
    printed = capsys.readouterr().out
    assert "so the second is better" in printed
    told = json.loads((second / "compare.json").read_text())
    assert told["top1"]["interval"][0] > 0
    assert told["mcnemar"]["p_value"] < 0.001
    right = [(one.scores.argmax(axis=1) == one.labels) for one in (poor, good)]
    assert told["mcnemar"]["only_first"] == (right[0] & ~right[1]).sum()
    assert told["mcnemar"]["only_second"] == len([flip for flip in told["flips"] if flip["right"] == "second"])
    assert main(["compare", str(second), str(first / "predictions.parquet"), "--out", str(first / "c.json")]) == 0
    assert "so the first is better" in capsys.readouterr().out
    assert main(["compare", str(first), str(first), "--out", str(first / "c.json")]) == 0
    assert "may be chance" in capsys.readouterr().out


def test_fuse_is_the_weighted_mean_by_key(two, tmp_path, capsys):
    first, second, poor, good = two
    file = str(second / "predictions.parquet")
    assert main(["fuse", str(first), file, "--weights", "1", "3", "--out", str(tmp_path / "out")]) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    fused = read_scored_videos(tmp_path / "out")
    assert fused.keys == poor.keys
    np.testing.assert_allclose(fused.scores, 0.25 * poor.scores + 0.75 * good.scores, atol=1e-6)
    assert [part["share"] for part in fused.provenance["fused"]] == [0.25, 0.75]
    assert "75% of" in capsys.readouterr().out


@pytest.mark.parametrize("is_pooled", [True, False])
def test_folds_are_fused_one_by_one(is_pooled, tmp_path, capsys):
    for stream, sure in (("rgb", 1.0), ("flow", 2.0)):
        for number, fold in enumerate(["2", "10"]):
            one = made(4, 40, number + 10 * len(stream), sure)
            prefix = fold if is_pooled else ""
            one = one._replace(keys=[prefix + key for key in one.keys], groups=[prefix + group for group in one.groups])
            write_results(tmp_path / stream / f"fold-{fold}", one, stream)
    words = ["fuse", str(tmp_path / "rgb"), str(tmp_path / "flow")]
    assert main([*words, "--out", str(tmp_path / "both")]) == 0
    printed = capsys.readouterr().out
    assert printed.index(" 2 ") < printed.index(" 10 ")
    report = json.loads((tmp_path / "both" / "report.json").read_text())
    tops = [json.loads((tmp_path / "both" / f"fold-{fold}" / "report.json").read_text())["top1"] for fold in (2, 10)]
    assert report["top1_mean"] == pytest.approx(np.mean(tops))
    assert (tmp_path / "both" / "predictions.parquet").exists() is is_pooled
    if is_pooled:
        assert report["num_videos"] == 80
        fused = read_scored_videos(tmp_path / "both").provenance["fused_folds"]
        assert [Path(part["results"]).parts[-2:] for part in fused["10"]] == [("rgb", "fold-10"), ("flow", "fold-10")]
    shutil.rmtree(tmp_path / "flow" / "fold-10")
    assert main([*words, "--out", str(tmp_path / "other")]) == 2
    assert "has the folds 2, 10, and" in capsys.readouterr().err


def test_logits_are_fused_as_the_geometric_mean():
    one, other = np.array([[0.5, 0.25, 0.25]]), np.array([[0.2, 0.4, 0.4]])
    expected = (one * other) ** 0.5
    np.testing.assert_allclose(fused_scores([one, other], [0.5, 0.5], "logits"), expected / expected.sum(), atol=1e-6)
    lost = np.array([[np.nan, np.nan, np.nan]])
    assert np.isnan(fused_scores([one, lost], [0.5, 0.5], "probabilities")).all()


def test_other_videos_are_refused_or_left_out():
    first, second = answers([0, 0, 1, 1]), answers([0, 0, 1])
    with pytest.raises(ValueError, match="first has 1 videos that not all others have, and 3 that all have"):
        align([first, second], ["first", "second"])
    assert [one.keys for one in align([first, second], ["first", "second"], common=True)] == [list("abc")] * 2
    old = answers([0, 0, 1, 1], groups=[""] * 4)  # written before predictions had groups
    assert [one.groups for one in align([old, first], ["old", "first"])] == [list("abcd")] * 2
    with pytest.raises(ValueError, match="1 videos have different labels, first b"):
        align([first, answers([0, 0, 1, 1], (0, 1, 1, 1))], ["first", "second"])
    with pytest.raises(ValueError, match="have no video in common"):
        align([first, answers([0], keys=["z"])], ["first", "second"], common=True)
    with pytest.raises(ValueError, match="different classes: their order differs"):
        align([first, answers([0, 0, 1, 1], class_names=["y", "x"])], ["first", "second"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["compare", "absent", "absent"], "predictions 'absent': no predictions.parquet there"),
        (["compare", __file__, __file__], "not a file that `evaluate` wrote"),
        (["compare", "absent", "absent", "--out", f"{__file__}/out"], "test_compare.py is no folder, so nothing can"),
        (["compare", "absent", "absent", "--out", "."], "out='.': is a folder; give the name of a file in it"),
        (["fuse", "absent", "absent", "--out", f"{__file__}/out"], "test_compare.py is no folder, so nothing can"),
        (["fuse", "absent", "--out", "out"], "give at least two"),
        (["fuse", "a", "b", "--out", "out", "--weights", "1"], "1 for 2 results; give one for each"),
        (["fuse", "a", "b", "--out", "out", "--weights", "0", "0"], "not all 0"),
    ],
)
def test_bad_input_costs_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_named(two, tmp_path):
    whole, damaged = (two[0] / "predictions.parquet").read_bytes(), tmp_path / "predictions.parquet"
    column = pq.ParquetFile(two[0] / "predictions.parquet").metadata.row_group(0).column(10)
    assert column.path_in_schema.startswith("scores")
    place = (column.dictionary_page_offset or column.data_page_offset) + column.total_compressed_size // 2
    damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(ValueError, match=r"predictions\.parquet': not a file that `evaluate` wrote, or damaged"):
        read_scored_videos(tmp_path)


def test_margins_and_probabilities_are_not_mixed(two, tmp_path):
    first, _, poor, _ = two
    about = poor.provenance | {"scores": "margin"}
    write_results(tmp_path / "margins", poor._replace(provenance=about), "svm on made")
    from pipeline.evaluation.fuse import fuse

    with pytest.raises(ValueError, match="scores of different scales cannot be averaged"):
        fuse([first, tmp_path / "margins"], tmp_path / "out")
    with pytest.raises(ValueError, match="average='logits': the scores are of the scale 'margin'"):
        fuse([tmp_path / "margins", tmp_path / "margins"], tmp_path / "out", average="logits")
