"""The learning rate's course, layers' shares of it, and layers that are left alone."""

import pytest
import torch
from pytorch_lightning import Callback, LightningDataModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_modules import C3D, CNNLSTM, I3D
from lightning_modules.tasks.optimization import (
    OptimizationOptions,
    batch_scale,
    decayed_scales,
    make_optimizer,
    rate_factor,
    record_batch_scale,
)
from tests.lightning_modules.clip_batches import moving_bars


def factors(steps: int, **chosen):
    return [rate_factor(OptimizationOptions(**chosen), step / steps, 1 / steps) for step in range(steps)]


def test_cosine_falls_from_one_to_nothing():
    assert factors(4) == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)
    assert rate_factor(OptimizationOptions(), 1.0, 0.25) == 0


def test_warm_up_rises_linearly_and_never_begins_at_nothing():
    assert factors(10, warmup_fraction=0.4, lr_schedule="constant") == pytest.approx([0.25, 0.5, 0.75, 1, *[1] * 6])


def test_cosine_begins_where_warm_up_ends():
    assert factors(8, warmup_fraction=0.5)[3:] == pytest.approx([1, 1, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_step_falls_again_and_again():
    found = factors(10, lr_schedule="step", lr_step_fraction=0.4, lr_gamma=0.5)
    assert found == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]


def test_multi_step_falls_at_its_milestones_however_the_share_is_rounded():
    found = factors(10, lr_schedule="multi_step", lr_milestones=[0.6, 0.9])
    assert found == pytest.approx([1] * 6 + [0.1] * 3 + [0.01])
    assert rate_factor(OptimizationOptions(lr_schedule="multi_step", lr_milestones=[0.3]), 3 * 0.1, 0.1) == 0.1


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"lr_schedule": "multi_step"}, "multi_step wants milestones"),
        ({"lr_milestones": [0.5]}, "nothing else takes them"),
        ({"lr_schedule": "multi_step", "lr_milestones": [0.9, 0.5]}, "must rise"),
        ({"lr_schedule": "multi_step", "lr_milestones": [3]}, "a share of the run"),
        ({"lr_gamma": 0}, "lr_gamma=0: must be above 0"),
        ({"lr_step_fraction": 2}, "lr_step_fraction=2"),
        ({"scale_learning_rate_from": 0}, "scale_learning_rate_from=0: must be at least 1"),
        ({"learning_rate_scale": {"fc": 0}}, "fc=0: must be above 0; .* freeze it"),
        ({"precise_bn_batches": -1}, "precise_bn_batches=-1: must be at least 0"),
        ({"compile": True, "checkpoint_activations": True}, "give one of them"),
    ],
)
def test_an_option_out_of_range_is_refused(chosen, message):
    with pytest.raises(ValueError, match=message):
        small(**chosen)


def small(**chosen):
    torch.manual_seed(0)
    return C3D(width=2, crop_size=32, batch_norm=True, num_classes=2, **chosen)


class Rates(Callback):
    """The learning rate of every optimizer step, of each group."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, model, optimizer):
        self.seen.append([group["lr"] for group in optimizer.param_groups])


def train(model, folder, batches=5, callbacks=(), ckpt_path=None, **trainer):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    rates = Rates()
    loader = torch.utils.data.DataLoader([moving_bars(4)] * batches, batch_size=None)
    trainer = Trainer(
        **{"accelerator": "cpu", "default_root_dir": folder, "callbacks": [rates, *callbacks], **quiet, **trainer}
    )
    trainer.fit(model, loader, ckpt_path=ckpt_path)
    return [rate[0] for rate in rates.seen]


def test_the_schedule_counts_optimizer_steps_where_gradients_accumulate(tmp_path):
    """Of 5 batches by twos, 3 steps an epoch: after 2, 4 and 5 batches."""
    model = small(lr_schedule="multi_step", lr_milestones=[0.5], warmup_fraction=0.2, learning_rate=0.06)
    rates = train(model, tmp_path, max_epochs=2, accumulate_grad_batches=2)
    # Done before each step: 0, 0.2, 0.4, 0.5, 0.7, 0.9; a step is 1/6 of the run; warm-up ends at 0.2.
    assert rates == pytest.approx([0.05, 0.06, 0.06, 0.006, 0.006, 0.006])


def test_a_run_of_so_many_steps_ends_its_schedule_with_them(tmp_path):
    rates = train(small(learning_rate=1.0), tmp_path, max_steps=4, max_epochs=100)
    assert rates == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_a_run_without_an_end_has_no_schedule(tmp_path):
    with pytest.raises(ValueError, match="the run has no end"):
        train(small(), tmp_path, max_epochs=-1)


def test_a_resumed_schedule_goes_on(tmp_path):
    chosen = {"lr_schedule": "step", "lr_step_fraction": 0.25, "warmup_fraction": 0.2, "learning_rate": 0.5}
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    whole = train(small(**chosen), tmp_path, max_epochs=2, callbacks=[keep])
    rest = train(small(**chosen), tmp_path, max_epochs=2, ckpt_path=tmp_path / "step=5.ckpt")
    assert rest == whole[5:]
    assert len(set(whole)) > 3


def test_frozen_layers_stay_as_they_are_statistics_and_all(tmp_path):
    model = small(freeze=["conv1", "conv2a", "pool1"], learning_rate=0.1)
    before = {name: value.clone() for name, value in model.stages.state_dict().items()}
    train(model, tmp_path, batches=2, max_epochs=1)
    changed = {name.split(".")[0] for name, value in model.stages.state_dict().items() if not value.equal(before[name])}
    assert changed == {"conv3a", "conv3b", "conv4a", "conv4b", "conv5a", "conv5b", "fc6", "fc7", "logits"}
    assert not model.train().stages.conv1a.training
    assert model.stages.conv3a.training


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"freeze": ["conv1", "conv6"]}, "freeze: 'conv6' is no layer of C3D; its stages are conv1a, pool1, .*logits"),
        ({"learning_rate_scale": {"Logits": 10.0}}, "learning_rate_scale: 'Logits' is no layer of C3D; its stages are"),
        ({"checkpoint_activations": ["Mixed"]}, "checkpoint_activations: 'Mixed' is no layer of C3D; its stages are"),
        ({"freeze": ["conv", "fc", "logits"]}, "nothing is left to train"),
    ],
)
def test_a_name_that_is_no_layer_is_refused(tmp_path, chosen, message):
    with pytest.raises(ValueError, match=message):
        train(small(**chosen), tmp_path, max_epochs=1)


def test_layers_have_their_share_of_the_rate(tmp_path):
    model = small(learning_rate_scale={"fc": 10.0, "fc7": 2.0, "conv1a": 0.5}, weight_decay=0.01, learning_rate=0.1)
    optimizer = make_optimizer(model, model.optimization)
    found = {
        name: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for name, parameter in model.stages.named_parameters()
        if any(parameter is one for one in group["params"])
    }
    assert found.keys() == dict(model.stages.named_parameters()).keys()
    for name, (rate, decay) in found.items():
        expected = {"fc6": 1.0, "fc7": 0.2, "conv1a": 0.05}.get(name.split(".")[0], 0.1)
        large = dict(model.stages.named_parameters())[name].ndim > 1
        assert (rate, decay) == (pytest.approx(expected), 0.01 if large else 0.0), name


@pytest.mark.parametrize(
    ("chosen", "kind", "expected"),
    [
        ({}, torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ({"momentum": 0.7}, torch.optim.SGD, {"momentum": 0.7, "nesterov": True}),
        ({"momentum": 0.0}, torch.optim.SGD, {"momentum": 0.0, "nesterov": False}),
        ({"optimizer": "adamw", "learning_rate": 0.003}, torch.optim.AdamW, {"lr": 0.003}),
    ],
)
def test_the_optimizer_is_the_one_asked_for(chosen, kind, expected):
    model = small(**chosen)
    optimizer = make_optimizer(model, model.optimization)
    assert type(optimizer) is kind
    assert all(group[name] == value for group in optimizer.param_groups for name, value in expected.items())


def test_class_tokens_and_embeddings_of_positions_and_times_do_not_decay():
    """Though they have three dimensions; what only sounds like them decays."""
    network = torch.nn.ParameterDict(
        {
            name: torch.nn.Parameter(torch.ones(shape))
            for name, shape in {
                "cls_token": (1, 1, 4),
                "position_embeddings": (1, 3, 4),
                "time_embeddings": (1, 2, 4),
                "mask_token": (1, 1, 4),
                "norm": (4,),
                "projection": (4, 4),
            }.items()
        }
    )
    optimizer = make_optimizer(network, OptimizationOptions(weight_decay=0.1))
    decayed = [one for group in optimizer.param_groups if group["weight_decay"] == 0.1 for one in group["params"]]
    kept = [one for group in optimizer.param_groups if group["weight_decay"] == 0 for one in group["params"]]
    assert {name for name, one in network.items() if any(one is other for other in decayed)} == {
        "mask_token",
        "projection",
    }
    assert len(kept) == 4


def test_the_decay_of_a_stage_is_multiplied_into_the_factors_of_its_layers():
    found = decayed_scales({"layer_1": 0.25, "layer_2": 0.5}, {"layer": 2.0, "layer_2.norm": 4.0})
    assert found == {"layer": 2.0, "layer_1": 0.5, "layer_2": 1.0, "layer_2.norm": 2.0}


def test_a_rate_recorded_for_another_batch_size_is_rescaled_once():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    rates = []
    for scale in (2.0, 2.0, 6.0, 1.0):  # the first is recorded beside the rate as it is
        record_batch_scale(optimizer, scale)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.5, 0.5, 1.5, 0.25])


class FourAtATime(LightningDataModule):
    """Eight batches of four videos."""

    def __init__(self, batch_size=4):
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self):
        return torch.utils.data.DataLoader([moving_bars(4)] * 8, batch_size=None)


@pytest.mark.parametrize(("accumulated", "base", "expected"), [(1, None, 0.5), (1, 8, 0.25), (1, 2, 1.0), (2, 2, 2.0)])
def test_the_rate_is_in_proportion_to_all_videos_of_a_step(tmp_path, accumulated, base, expected):
    """Four videos a batch, of one rank: 0.5 is meant for `base` of them."""
    rates = Rates()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    model = small(learning_rate=0.5, lr_schedule="constant", scale_learning_rate_from=base)
    settings = {"accelerator": "cpu", "default_root_dir": tmp_path, "max_epochs": 1, "callbacks": [rates], **quiet}
    Trainer(**settings, accumulate_grad_batches=accumulated).fit(model, FourAtATime())
    assert {rate for of_step in rates.seen for rate in of_step} == {expected}
    assert len(rates.seen) == 8 // accumulated


class FourRanks(Trainer):
    """A trainer that is told to be of one of four ranks."""

    world_size = 4


def test_the_videos_of_all_ranks_count():
    trainer = FourRanks(accelerator="cpu", logger=False, accumulate_grad_batches=3)
    trainer.datamodule = FourAtATime()
    assert batch_scale(trainer, 8) == 4 * 4 * 3 / 8


class UnevenBatches(FourAtATime):
    """The first batch has half of an epoch's videos, as its own progress says."""

    def share_of_epoch(self, steps):
        return 0.5 + steps / 16 if steps else 0.0


@pytest.mark.parametrize(("share", "expected"), [(1.0, [1.0] + [0.1] * 7), (0.5, [1.0, 1.0, 0.1, 0.1])])
def test_progress_is_in_videos_unless_an_epoch_is_cut_short(tmp_path, share, expected):
    rates = Rates()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings = {"accelerator": "cpu", "default_root_dir": tmp_path, "max_epochs": 1, "callbacks": [rates], **quiet}
    model = small(learning_rate=1.0, lr_schedule="multi_step", lr_milestones=[0.5])
    Trainer(**settings, limit_train_batches=share).fit(model, UnevenBatches())
    assert [rate[0] for rate in rates.seen] == pytest.approx(expected)


def test_fixed_scales_of_i3d_stay_fixed():
    model = I3D(num_classes=2, learning_rate_scale={"Logits": 10.0})
    optimizer = make_optimizer(model, model.optimization)
    scales = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.BatchNorm3d)}
    assert len(scales) == 57
    assert not scales & {id(weight) for group in optimizer.param_groups for weight in group["params"]}


def test_a_layer_within_a_stage_can_be_named(tmp_path):
    model = CNNLSTM(num_classes=2, channels=(4, 8), hidden_size=4, freeze=["frames.network"])
    train(model, tmp_path, batches=1, max_epochs=1)
    assert not any(weight.requires_grad for weight in model.stages.frames.parameters())
    assert all(weight.requires_grad for weight in model.stages.hidden.parameters())


def test_label_smoothing_spreads_its_share_over_all_classes():
    model, batch = small(label_smoothing=0.2).eval(), moving_bars(4)
    model.log = model.log_dict = lambda *args, **kwargs: None
    logs = model(batch).log_softmax(1)
    of_labels = logs[torch.arange(4), batch.labels]
    torch.testing.assert_close(model.training_step(batch, 0), -(0.8 * of_labels + 0.2 * logs.mean(1)).mean())
