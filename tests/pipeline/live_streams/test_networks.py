"""The clips of a window are those of a video of its frames; programs and linear classifiers score streams too."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.sampling.clip_sampling import ClipSampler, ClipShape
from datamodules.transforms.clip_transforms import EvalTransform
from pipeline.__main__ import main
from pipeline.classify.live_stream import window_shape
from pipeline.classify.video_input import Preprocessing
from pipeline.classify.window_scores import WindowScorer
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.inference.trained_checkpoint import open_checkpoint
from pipeline.linear.linear import linear
from pipeline.linear.linear_options import LinearOptions
from pipeline.live_streams.live_options import LiveOptions
from tests.pipeline.live_streams.streams import classify, moving_video

SHAPE = ClipShape(4)


@pytest.mark.parametrize(
    "sampler",
    [
        ClipSampler(SHAPE, "uniform", 3),
        ClipSampler(SHAPE, "dense", step=2),
        ClipSampler(SHAPE, "whole", max_frames=5),
        ClipSampler(SHAPE, "uniform", 2, still=True),
        ClipSampler(ClipShape(4, segments=True), "uniform", 2),
    ],
    ids=["uniform", "dense", "whole", "still", "segments"],
)
def test_a_window_is_sampled_as_a_video(motion_checkpoint: Path, sampler: ClipSampler) -> None:
    preprocessing = Preprocessing(sampler, EvalTransform(1), "pyav", sampler.shape)
    frames = [torch.full((1, 1, 3), number, dtype=torch.uint8) for number in range(11)]
    clips = WindowScorer(open_checkpoint(motion_checkpoint).model, preprocessing).clips(frames)
    expected = sampler(11, 25.0, np.random.default_rng(0))
    assert clips[..., 0, 0, 0].tolist() == expected.tolist()


def test_clips_that_are_all_the_same_are_one(motion_checkpoint: Path) -> None:
    preprocessing = Preprocessing(ClipSampler(SHAPE, "uniform", 10), EvalTransform(1), "pyav", SHAPE)
    scorer = WindowScorer(open_checkpoint(motion_checkpoint).model, preprocessing)
    assert scorer.clips([torch.zeros(1, 1, 3, dtype=torch.uint8)] * 4).shape == (1, 4, 1, 1, 3)


def test_windows_of_networks_that_see_whole_videos() -> None:
    shape = ClipShape(8, frame_interval=3, segments=True)
    seen = Preprocessing(ClipSampler(shape, "uniform", 1), EvalTransform(1), "pyav", shape)
    with pytest.raises(ValueError, match="give --window, in seconds"):
        window_shape(seen, LiveOptions(live=True))
    assert window_shape(seen, LiveOptions(live=True, window=2.0)).num_frames(30.0) == 60
    at_rate = ClipShape(16, fps=8.0)
    seen = Preprocessing(ClipSampler(at_rate, "uniform", 1), EvalTransform(1), "pyav", at_rate)
    with pytest.raises(ValueError, match="16 frames of 8 a second, 2 s; give more"):
        window_shape(seen, LiveOptions(live=True, window=1.0))


def test_networks_of_flow_are_refused() -> None:
    seen = Preprocessing(ClipSampler(SHAPE, "uniform", 1), EvalTransform(1), "pyav", SHAPE, "flow")
    with pytest.raises(ValueError, match="live: the network takes optical flow"):
        window_shape(seen, LiveOptions(live=True))


@pytest.mark.slow
def test_programs_and_linear_classifiers(
    motion_checkpoint: Path, motion_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A window as long as the video has the scores of `classify`."""
    assert main(["export", "--checkpoint", str(motion_checkpoint), "--out", str(tmp_path / "model")]) == 0
    quick = {"num_workers": 0, "accelerator": "cpu", "clip_step": 4}
    for split in ("train", "test"):
        features(FeatureOptions(motion_checkpoint, motion_dataset, out=tmp_path / split, split=split, **quick))
    linear(LinearOptions(tmp_path / "linear", tmp_path / "train", tmp_path / "test"))
    path = tmp_path / "video.ts"
    path.write_bytes(moving_video(40))
    head = ["--linear", str(tmp_path / "linear/weights.safetensors")]
    for words in (["--model", str(tmp_path / "model")], ["--checkpoint", str(motion_checkpoint), *head]):
        capsys.readouterr()
        assert main(["classify", str(path), *words, "--top", "8", "--json"]) == 0
        expected = json.loads(capsys.readouterr().out)["top"]
        [line] = classify(capsys, path, *words, "--top", "8", "--window", "1.6").windows
        assert [entry["class"] for entry in line["top"]] == [entry["class"] for entry in expected]
        assert [entry["probability"] for entry in line["top"]] == pytest.approx(
            [entry["probability"] for entry in expected], abs=2e-6
        )
