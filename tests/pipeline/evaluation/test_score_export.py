"""Views in pieces: what goes through the network at a time, and what comes out of it."""

import pytest
import torch

from datamodules.batch import ClipBatch
from datamodules.datamodule import ShardedVideoDataModule
from lightning_modules import C3D
from pipeline.evaluation.score_export import max_views_per_forward


@pytest.fixture(scope="module")
def views():
    """Three videos of 10, 1 and 19 views of 16 x 32 x 32."""
    generator = torch.Generator().manual_seed(0)
    clips = torch.randint(0, 256, (30, 16, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return ClipBatch.from_clips_of_videos(clips.split([10, 1, 19]))


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_no_more_views_than_allowed_are_in_the_network_at_a_time(views, average):
    model = C3D(num_classes=5, width=2, crop_size=32).eval()
    model.view_average = average
    seen = []
    model.stages[0].register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    with torch.inference_mode():
        whole = model.video_scores(views)
        assert seen == [30]
        for most, pieces in ((7, [7, 7, 7, 7, 2]), (1, [1] * 30)):
            seen.clear()
            model.views_at_once = most
            torch.testing.assert_close(model.video_scores(views), whole, atol=1e-5, rtol=0)
            assert seen == pieces
        logits = model.clip_logits(model.normalize(views))
    parts = logits.split([10, 1, 19])
    by_hand = [part.mean(0).softmax(0) if average == "logits" else part.softmax(1).mean(0) for part in parts]
    torch.testing.assert_close(whole, torch.stack(by_hand), atol=1e-5, rtol=0)


def test_as_many_views_as_fit(motion_dataset):
    def fit(**settings):
        return max_views_per_forward(ShardedVideoDataModule(str(motion_dataset), num_workers=0, **settings), "cpu")

    assert fit(num_frames=16, crop_size=112) == 13
    assert fit(num_frames=64, crop_size=224) == 1  # 10 x 3 of I3D's go one by one
    assert fit(num_frames=16, crop_size=32, test_sampling="whole") == 1
