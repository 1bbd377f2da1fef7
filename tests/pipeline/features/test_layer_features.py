"""Features of every endpoint of every network, in every pooling; rows of uneven videos."""

import pytest
import torch

from lightning_modules import Video2Vec, VideoDescriber
from pipeline.features.layer_features import VIDEO_ROW, FeatureExport, pool_features
from tests.lightning_modules.clip_batches import moving_bars
from tests.lightning_modules.networks.test_all_networks import SMALL

NETWORKS = {name: lambda make=make: make(num_classes=5) for name, make in SMALL.items()} | {
    "Video2Vec": lambda: Video2Vec(channels=(4,), hidden_size=6),
    "VideoDescriber": lambda: VideoDescriber(channels=(4,), hidden_size=6),
}


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_endpoint_of_every_network(name):
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    layers = list(model.endpoints_available)
    batch = moving_bars(2)
    with torch.inference_mode():
        outputs = model.endpoints(model.normalize(batch), layers)
        found = {
            how: FeatureExport(model, layers, "video", 1, how).predict_step(batch, 0).features
            for how in ("mean", "max", "mean_max", "none")
        }
    for layer in layers:
        output = outputs[layer].flatten(1) if outputs[layer].ndim < 3 else outputs[layer]
        places = output if output.ndim < 4 else output.flatten(2).transpose(1, 2)
        torch.testing.assert_close(found["none"][layer], output.flatten(1))
        torch.testing.assert_close(found["mean"][layer], places if places.ndim == 2 else places.mean(1))
        torch.testing.assert_close(found["max"][layer], places if places.ndim == 2 else places.amax(1))
        torch.testing.assert_close(found["mean_max"][layer], torch.cat([found["mean"][layer], found["max"][layer]], 1))
        if output.ndim in (3, 5):
            steps = output if output.ndim == 3 else output.mean((3, 4)).transpose(1, 2)
            torch.testing.assert_close(pool_features(outputs[layer], "time"), steps)


def test_rows_of_uneven_videos_and_of_no_videos():
    torch.manual_seed(0)
    model = SMALL["CNNLSTM"](num_classes=2).eval()
    batch = moving_bars(3, clips_per_video=2)
    batch = batch._replace(video_index=torch.tensor([0, 0, 0, 1, 2, 2]), rows=torch.tensor([7, 3, 9]))
    empty = batch._replace(clips=batch.clips[:0], video_index=batch.video_index[:0], labels=batch.labels[:0], keys=[])
    empty = empty._replace(rows=batch.rows[:0], clip_times=batch.clip_times[:0])
    with torch.inference_mode():
        states = model.endpoints(model.normalize(batch), ["state"])["state"]
        both = FeatureExport(model, ["state"], "both", 1).predict_step(batch, 0)
        nothing = FeatureExport(model, ["state"], "both", 1).predict_step(empty, 0)
    assert both.rows.tolist() == [7, 7, 7, 7, 3, 3, 9, 9, 9]
    assert both.clips.tolist() == [0, 1, 2, VIDEO_ROW, 0, VIDEO_ROW, 0, 1, VIDEO_ROW]
    means = [states[:3].mean(0), states[3], states[4:].mean(0)]
    expected = [*states[:3], means[0], states[3], means[1], *states[4:], means[2]]
    torch.testing.assert_close(both.features["state"], torch.stack(expected))
    assert [len(part) for part in (nothing.rows, nothing.features["state"], nothing.clips, nothing.times)] == [0] * 4


def test_what_cannot_be_pooled():
    with pytest.raises(ValueError, match="has no features"):
        pool_features(torch.zeros(3))
    with pytest.raises(ValueError, match="has no time"):
        pool_features(torch.zeros(3, 4), "time")
