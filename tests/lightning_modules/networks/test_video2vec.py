"""video2vec: what it is to give back, in which order, and that it learns it."""

import pytest
import torch
from pytorch_lightning import Trainer

from lightning_modules import Video2Vec, VideoClassifier, VideoNetwork
from lightning_modules.networks.frame_encoders import Standardize
from lightning_modules.networks.video2vec import SequenceDecoder
from tests.lightning_modules.clip_batches import moving_bars
from tests.lightning_modules.layers.recurrence_equations import run_equations
from tests.lightning_modules.networks.test_all_networks import loader

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def small(**settings):
    torch.manual_seed(0)
    return Video2Vec(channels=(4, 8), hidden_size=16, predicted_frames=4, **settings)


class Told(torch.nn.Module):
    """A decoder that gives what it was built with."""

    def __init__(self, given):
        super().__init__()
        self.given = torch.tensor(given)[None, :, None]

    def forward(self, state, length):
        assert length == self.given.shape[1]
        return self.given


class Numbers(torch.nn.Module):
    """In the place of the 2D network: frame t of every clip has the one feature t + 1."""

    def forward(self, clips):
        frames = torch.arange(1.0, clips.shape[2] + 1)
        return frames[None, :, None].expand(len(clips), -1, 1)


def test_errors_by_hand():
    """Frames 1, 2, 3 are read, 4 and 5 are predicted."""
    model = Video2Vec(predicted_frames=2, channels=(4,), hidden_size=3, standardize=False)
    model.stages.frames = Numbers()
    model.stages.hidden.cells = torch.nn.LSTM(1, 3, batch_first=True)
    decoders = {"reconstruction": Told([3.0, 2.0, 2.0]), "prediction": Told([4.0, 7.0])}  # reversed: 3, 2, 1
    model.stages.decoders = torch.nn.ModuleDict(decoders)
    errors = model.clip_errors(torch.zeros(1, 3, 5, 2, 2))
    assert errors["reconstruction"].item() == pytest.approx(1 / 3)  # (0 + 0 + 1) / 3
    assert errors["prediction"].item() == pytest.approx(2.0)  # (0 + 4) / 2
    assert errors["reconstruction_baseline"].item() == pytest.approx(2 / 3)  # of the mean, 2
    assert errors["prediction_baseline"].item() == pytest.approx(2.5)  # of the last, 3: (1 + 4) / 2
    assert model.loss_of(errors).item() == pytest.approx(2 + 1 / 3)


def test_conditional_decoders_see_what_they_gave_last():
    decoder = SequenceDecoder(2, 3, 1, conditional=True)
    state = (torch.randn(1, 4, 3), torch.randn(1, 4, 3))
    given = decoder(state, 5)
    seen = torch.cat([torch.zeros(4, 1, 2), given[:, :4]], dim=1)
    torch.testing.assert_close(given, decoder.output(decoder.cells(seen, state)[0]))


@pytest.mark.parametrize("conditional", [False, True])
def test_stacked_decoders_go_on_from_the_encoder_s_last_states_by_equation(conditional):
    """Two layers: what is read from the first frames, said by each decoder from both layers' hidden state and cell."""
    torch.manual_seed(0)
    model = Video2Vec(
        encoder="pixels:2", hidden_size=3, num_layers=2, predicted_frames=2, conditional=conditional, standardize=False
    ).double()
    clip = torch.randn(1, 3, 5, 4, 4, dtype=torch.float64)
    frames = clip[0].mean(0).unflatten(1, (2, 2)).unflatten(3, (2, 2)).mean((2, 4)).flatten(1)
    read = run_equations("lstm", model.stages.hidden.cells, frames[:3], 2)
    errors = model.clip_errors(clip)
    for task, targets in (("reconstruction", frames[:3].flip(0)), ("prediction", frames[3:])):
        decoder = model.stages.decoders[task]
        given = [torch.zeros(4 if conditional else 1, dtype=torch.float64)]
        for length in range(1, len(targets) + 1):
            states = run_equations("lstm", decoder.cells, torch.stack(given), 2, begin=(read.hidden, read.cell)).states
            said = states @ decoder.output.weight.T + decoder.output.bias
            given.append(said[length - 1] if conditional else given[0])
        assert errors[task].item() == pytest.approx((said - targets).square().mean().item(), abs=1e-6)
    state = model.endpoints(clip, ["state"])["state"]
    whole = run_equations("lstm", model.stages.hidden.cells, frames, 2)
    torch.testing.assert_close(state[0], whole.states[-1], rtol=0, atol=1e-12)


def test_targets_have_no_gradient_and_every_parameter_has_one():
    model = small()
    model.log = model.log_dict = lambda *args, **kwargs: None
    model.training_step(moving_bars(4), 0).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    frozen = small(freeze_encoder=True)
    frozen.log = frozen.log_dict = lambda *args, **kwargs: None
    frozen.training_step(moving_bars(4), 0).backward()
    assert all((p.grad is None) == ("frames" in name) for name, p in frozen.named_parameters())


def test_features_do_not_learn_to_be_easy_targets():
    """Where decoders say what they say whatever they are told, nothing is left for the 2D network to learn."""
    model = Video2Vec(predicted_frames=2, channels=(4,), hidden_size=3, standardize=False)
    scale = torch.nn.Parameter(torch.ones(1))
    numbers = Numbers()
    model.stages.frames = numbers
    numbers.register_forward_hook(lambda _, __, output: output * scale)
    model.stages.hidden.cells = torch.nn.LSTM(1, 3, batch_first=True)
    model.stages.decoders = torch.nn.ModuleDict({"reconstruction": Told([0.0] * 3), "prediction": Told([0.0] * 2)})
    assert not any(error.requires_grad for error in model.clip_errors(torch.zeros(1, 3, 5, 2, 2)).values())


def test_evaluation_standardizes_by_what_training_saw():
    standardize, seen = Standardize(2), torch.randn(64, 8, 2) * 3 + 1
    for _ in range(100):
        standardize(seen)
    one = torch.full((1, 1, 2), 4.0)
    mean, deviation = seen.mean((0, 1)), seen.std((0, 1))
    torch.testing.assert_close(standardize.eval()(one)[0, 0], (4 - mean) / deviation, rtol=1e-3, atol=1e-3)


def test_standardized_features_have_mean_0_and_deviation_1():
    x = torch.randn(6, 7, 3) * torch.tensor([5.0, 1.0, 0.1]) + 2
    assert not list(Standardize(3).parameters())  # which could learn to undo it
    given = Standardize(3)(x)
    torch.testing.assert_close(given.mean(dim=(0, 1)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(given.std(dim=(0, 1), correction=0), torch.ones(3), atol=1e-2, rtol=0)


@pytest.mark.parametrize("conditional", [False, True])
def test_moving_bars_are_learnt_below_the_baselines(conditional, tmp_path):
    model = small(conditional=conditional, freeze_encoder=True, optimizer="adamw", learning_rate=0.02, weight_decay=0.0)
    trainer = Trainer(**QUIET, max_epochs=1, default_root_dir=tmp_path)
    trainer.fit(model, loader(120))
    [errors] = trainer.validate(model, loader(1), verbose=False)
    for task in ("reconstruction", "prediction"):
        assert errors[f"val/{task}"] < 0.75 * errors[f"val/{task}_baseline"]
    assert errors["val/loss"] == pytest.approx(errors["val/reconstruction"] + errors["val/prediction"], abs=1e-5)


def test_a_checkpoint_gives_the_same_vectors_and_is_no_classifier(tmp_path):
    model = small(class_names=["down", "up"])
    trainer = Trainer(**QUIET, max_epochs=1, default_root_dir=tmp_path)
    trainer.fit(model, loader(2))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = VideoNetwork.load(tmp_path / "last.ckpt")
    batch = moving_bars(3, clips_per_video=2)
    given = loaded.predict_step(batch, 0)["states"]
    torch.testing.assert_close(given, model.eval().predict_step(batch, 0)["states"])
    states = loaded.endpoints(loaded.normalize(batch), ["state"])["state"]
    torch.testing.assert_close(given, states.view(3, 2, 16).mean(1))
    assert loaded.endpoints_available == ("frames", "standardized", "hidden", "state")
    with pytest.raises(ValueError, match="a checkpoint of Video2Vec, not of VideoClassifier"):
        VideoClassifier.load(tmp_path / "last.ckpt")


def test_a_video_s_vector_is_the_mean_of_its_views_however_many_they_are():
    model, batch = small().eval(), moving_bars(2, clips_per_video=2)
    batch = batch._replace(video_index=torch.tensor([1, 0, 1, 1]))
    with torch.inference_mode():
        states = model.endpoints(model.normalize(batch), ["state"])["state"]
        expected = torch.stack([states[1], states[[0, 2, 3]].mean(0)])
        torch.testing.assert_close(model.predict_step(batch, 0)["states"], expected)


def test_an_empty_batch_gives_zero_gradients_and_changes_no_metric():
    model = small()
    model.log = model.log_dict = lambda *args, **kwargs: None
    empty = moving_bars(2)
    empty = empty._replace(clips=empty.clips[:0], labels=empty.labels[:0], keys=[], video_index=empty.video_index[:0])
    model.training_step(empty, 0).backward()
    assert all(not parameter.grad.any() for parameter in model.parameters())
    model.validation_step(empty, 0)
    assert model.predict_step(empty, 0)["states"].shape == (0, 16)


def test_what_cannot_be_learnt_is_named():
    with pytest.raises(ValueError, match="nothing to learn"):
        small(reconstruct=False) and Video2Vec(reconstruct=False, predicted_frames=0)
    with pytest.raises(ValueError, match="predicted_frames=4: clips have 4 frames"):
        small().clip_errors(torch.zeros(2, 3, 4, 16, 16))
