"""What every network here promises, tested on each of them."""

import pytest
import torch
from pytorch_lightning import Trainer

import lightning_modules
from lightning_modules import (
    C3D,
    CNNLSTM,
    I3D,
    FrameClassifier,
    InceptionV1,
    PretrainedVideoNetwork,
    TwoStream,
    VideoClassifier,
)
from lightning_modules.weights.checkpoint_file import read_checkpoint
from tests.lightning_modules.clip_batches import moving_bars

SMALL = {
    "C3D": lambda **kwargs: C3D(width=4, crop_size=32, batch_norm=True, **kwargs),
    "CNNLSTM": lambda **kwargs: CNNLSTM(channels=(8, 16), hidden_size=12, **kwargs),
    "FrameClassifier": lambda **kwargs: FrameClassifier(channels=(8, 16), **kwargs),
    "I3D": lambda **kwargs: I3D(**kwargs),
    "InceptionV1": lambda **kwargs: InceptionV1(**kwargs),
}
DEEP = ("I3D", "InceptionV1")


@pytest.fixture(params=sorted(SMALL))
def make(request):
    torch.manual_seed(0)
    return SMALL[request.param]


def test_every_network_is_tested_here():
    # The last two in test_pretrained_video_network.py and tests/lightning_modules/fusion.
    elsewhere = {VideoClassifier, PretrainedVideoNetwork, TwoStream}
    networks = {getattr(lightning_modules, name) for name in lightning_modules.__all__} - elsewhere
    assert {one.__name__ for one in networks if issubclass(one, VideoClassifier)} == set(SMALL)


def test_clip_logits_have_a_row_a_clip(make):
    model = make(num_classes=5).eval()
    assert model.clip_logits(torch.randn(3, 3, 16, 32, 32)).shape == (3, 5)


def test_the_last_endpoint_is_the_logits(make):
    model = make(num_classes=5).eval()
    x = torch.randn(2, 3, 16, 32, 32)
    names = model.endpoints_available
    found = model.endpoints(x, names)
    assert tuple(found) == names
    assert names[-1].lower() == "logits"
    torch.testing.assert_close(found[names[-1]], model.clip_logits(x))
    assert model.endpoints(x, [model.feature_layer])[model.feature_layer].shape[0] == 2


def test_endpoints_compute_nothing_after_the_last_one_asked_for(make):
    model = make(num_classes=5).eval()
    model.stages[-1].register_forward_hook(lambda *_: pytest.fail("computed the logits"))
    model.endpoints(torch.randn(1, 3, 16, 32, 32), [model.feature_layer])


def test_an_unknown_endpoint_lists_those_there_are(make):
    with pytest.raises(ValueError, match=r"layer 'Mixed_5d': .* has .*ogits"):
        make(num_classes=2).endpoints(torch.randn(1, 3, 16, 32, 32), ["Mixed_5d"])


def test_every_parameter_gets_a_gradient(make):
    model = make(num_classes=2, label_smoothing=0.1)
    model.log = model.log_dict = lambda *args, **kwargs: None
    model.training_step(moving_bars(4), 0).backward()
    without = [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert without == []


def test_a_batch_without_videos_gives_every_parameter_a_zero_gradient(make):
    model = make(num_classes=2)
    empty = moving_bars(4)
    empty = empty._replace(clips=empty.clips[:0], labels=empty.labels[:0], keys=[], video_index=empty.video_index[:0])
    model.training_step(empty, 0).backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in trained)
    assert model.video_scores(empty).shape == (0, 2)


def test_a_batch_without_videos_counts_in_no_metric_of_training():
    model = CNNLSTM(num_classes=2, channels=(4,), hidden_size=3)
    model.log = model.log_dict = lambda *args, **kwargs: None
    batch = moving_bars(4)
    empty = batch._replace(clips=batch.clips[:0], labels=batch.labels[:0], keys=[], video_index=batch.video_index[:0])
    for number, one in enumerate((batch, empty)):
        model.on_train_batch_end(model.training_step(one, number), one, number)
    assert next(iter(model.train_metrics.values())).total.sum() == 4


@pytest.mark.parametrize("name", ["C3D", "CNNLSTM"])
def test_statistics_of_batch_norms_move_by_a_tenth_a_step(name):
    """From 0 and 1, of the first layer's output in one step; and epsilon is torch's."""
    model = SMALL[name](num_classes=2).train()
    seen = []
    norm = next(one for one in model.modules() if isinstance(one, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)))
    norm.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].detach()))
    model.clip_logits(model.normalize(moving_bars(2)))
    variance, mean = torch.var_mean(seen[0].transpose(0, 1).flatten(1), dim=1)
    rough = {"rtol": 1e-2, "atol": 1e-4}  # torch's own sums are, on the CPU
    torch.testing.assert_close(norm.running_mean, 0.1 * mean, **rough)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variance, **rough)
    assert norm.eps == 1e-5


def test_pixels_are_normalized_by_channel_and_stay_in_their_places():
    """(x / 255 - mean) / std, for R, G and B; the axes become clip, channel, frame, row, column."""
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    model = SMALL["CNNLSTM"](num_classes=2, mean=mean, std=std)
    batch = moving_bars(2, num_frames=2, size=4)
    batch.clips.copy_(torch.arange(batch.clips.numel()).view(batch.clips.shape) % 251)
    found = model.normalize(batch)
    assert found.shape == (2, 3, 2, 4, 4)
    for clip, channel, frame, row, column in [(0, 0, 0, 0, 0), (0, 1, 0, 0, 3), (0, 2, 1, 3, 1), (1, 0, 1, 2, 0)]:
        expected = (batch.clips[clip, frame, row, column, channel].item() / 255 - mean[channel]) / std[channel]
        assert found[clip, channel, frame, row, column].item() == pytest.approx(expected, abs=1e-5)
    assert not {"mean", "std"} & model.state_dict().keys()  # they are arguments


def test_scores_are_the_mean_of_the_views_probabilities(make):
    model = make(num_classes=2).eval()
    batch = moving_bars(3, clips_per_video=2)
    batch = batch._replace(video_index=torch.tensor([2, 0, 1, 2, 0, 2]))  # uneven and out of order
    probabilities = model.clip_logits(model.normalize(batch)).softmax(1)
    expected = torch.stack([probabilities[[1, 4]].mean(0), probabilities[2], probabilities[[0, 3, 5]].mean(0)])
    torch.testing.assert_close(model.video_scores(batch), expected)
    losses = torch.nn.functional.cross_entropy(probabilities.log(), torch.tensor([0, 0, 1, 0, 0, 0]))
    torch.testing.assert_close(model.training_step(batch, 0), losses)  # the videos are of classes 0, 1 and 0
    model.views_at_once = 4
    torch.testing.assert_close(model.video_scores(batch), expected)


class Bars(torch.utils.data.Dataset):
    """The same batch, again and again; with `dim`, class 1 is darker too, which a network of single frames can see."""

    def __init__(self, length: int, dim: bool):
        self.length = length
        self.batch = moving_bars(8)
        if dim:
            self.batch.clips[1::2] //= 3

    def __len__(self):
        return self.length

    def __getitem__(self, number):
        if number >= self.length:
            raise IndexError
        return self.batch


def loader(length: int, dim: bool = False):
    return torch.utils.data.DataLoader(Bars(length, dim), batch_size=None)


@pytest.fixture
def quick_trainer(tmp_path):
    def build(**kwargs):
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        return Trainer(accelerator="cpu", default_root_dir=tmp_path, max_epochs=1, **quiet, **kwargs)

    return build


@pytest.mark.parametrize(
    "make",
    ["C3D", "CNNLSTM", "FrameClassifier", *(pytest.param(name, marks=pytest.mark.slow) for name in DEEP)],
    indirect=True,
)
def test_eight_clips_can_be_learnt_by_heart(make, quick_trainer):
    model = make(num_classes=2, optimizer="adamw", weight_decay=0.0, dropout=0.0)
    deep, dim = isinstance(model, (I3D, InceptionV1)), isinstance(model, (FrameClassifier, InceptionV1))
    model.hparams["learning_rate"] = 0.001 if deep else 0.01
    trainer = quick_trainer()
    trainer.fit(model, loader(35 if deep else 60, dim))
    [metrics] = trainer.validate(model, loader(1, dim), verbose=False)
    assert metrics["val/top1"] == 1.0
    assert metrics["val/loss"] < 0.3


def test_a_checkpoint_gives_back_the_class_and_the_scores(make, quick_trainer, tmp_path):
    model = make(class_names=["down", "up"], learning_rate=0.003)
    trainer = quick_trainer()
    trainer.fit(model, loader(2))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = VideoClassifier.load(tmp_path / "last.ckpt")
    assert type(loaded) is type(model)
    assert loaded.class_names == ["down", "up"]
    assert loaded.hparams["learning_rate"] == 0.003
    torch.testing.assert_close(loaded.video_scores(moving_bars(4)), model.eval().video_scores(moving_bars(4)))
    assert "state_dict" in read_checkpoint(tmp_path / "last.ckpt")


class SecondRank(CNNLSTM):
    """A network that is told to be one of several."""

    global_rank = 1


def test_what_is_drawn_depends_on_seed_epoch_batch_and_rank(quick_trainer):
    for kind, rank in ((CNNLSTM, 0), (SecondRank, 1)):
        model = kind(num_classes=2, channels=(4,), hidden_size=3, seed=7)
        model.trainer = quick_trainer()
        model.trainer.fit_loop.epoch_progress.current.completed = 3
        assert model.seed_key(5) == [7, 3, 5, rank]


def test_validation_loss_is_the_mean_over_videos_of_uneven_batches(quick_trainer):
    torch.manual_seed(0)
    model = CNNLSTM(num_classes=2, channels=(4,), hidden_size=3).eval()
    with torch.no_grad():
        model.stages.logits[1].weight.mul_(9)
    batches = [moving_bars(5, clips_per_video=2), moving_bars(2, clips_per_video=2, num_frames=4)]
    [metrics] = quick_trainer().validate(model, torch.utils.data.DataLoader(batches, batch_size=None), verbose=False)
    with torch.no_grad():
        losses = [-model.video_scores(batch).log()[torch.arange(batch.num_videos), batch.labels] for batch in batches]
    assert metrics["val/loss"] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-5)
    assert metrics["val/loss"] != pytest.approx(torch.stack([one.mean() for one in losses]).mean().item(), abs=1e-3)


def test_dropout_is_keyed_by_seed_epoch_batch_and_rank(make, quick_trainer):
    def draw(seed: int, batch: int) -> torch.Tensor:
        model = make(num_classes=2, seed=seed)
        quick_trainer().strategy.connect(model)
        model.on_train_batch_start(moving_bars(2), batch)
        return torch.rand(3)

    assert torch.equal(draw(0, 1), draw(0, 1))
    assert not torch.equal(draw(0, 1), draw(0, 2))
    assert not torch.equal(draw(0, 1), draw(1, 1))
