"""Evaluation on a dataset of segments: every segment once, with its place in the source in the results."""

import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.__main__ import main
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.metrics.predictions import read_predictions


def test_predictions_and_report_give_source_times(
    motion_checkpoint: Path, motion_dataset: Path, segments_dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    evaluate(
        EvaluateOptions(motion_checkpoint, segments_dataset, num_clips=2, out=out, num_workers=0, accelerator="cpu")
    )
    scores, table = read_predictions(out / "predictions.parquet")
    index = DatasetIndex.open(segments_dataset)
    assert len(scores) == len(index.rows("test")) == 32
    assert np.isfinite(scores).all()
    found = zip(*(table.column(name).to_pylist() for name in ("key", "source_start", "source_end")), strict=True)
    for key, start, end in found:
        assert (start, end) == pytest.approx((0.0, 0.68) if key.endswith("_0ms_680ms") else (0.2, 0.96))
    assert len(set(table.column("source").to_pylist())) == 16
    page = (out / "report.html").read_text()
    assert "0.20 to 0.96 s" in page or "0.00 to 0.68 s" in page
    entry = index.entry(int(index.rows("test")[0]))
    assert entry.describe_segment() in {f"{entry.source}, 0.00 to 0.68 s", f"{entry.source}, 0.20 to 0.96 s"}
    assert not DatasetIndex.open(motion_dataset).has_segments


def test_a_timeline_is_on_the_clock_of_the_source(
    motion_checkpoint: Path, segments_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["classify", str(segments_dataset), "--checkpoint", str(motion_checkpoint), "--timeline", "--json"]
    assert main(arguments) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    of_test = [result for result in results if result["video"].endswith(("_0ms_680ms", "_200ms_960ms"))]
    assert len(of_test) == 32
    for result in of_test:
        start, end = (0.0, 0.68) if result["video"].endswith("_0ms_680ms") else (0.2, 0.96)
        assert (result["timeline"][0]["start"], result["timeline"][-1]["end"]) == pytest.approx((start, end))
        assert result["stretches"][0]["start"] == pytest.approx(start)
        assert result["source"].endswith(".mp4")
