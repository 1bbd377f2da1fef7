"""Batch norms' statistics: precise ones before evaluation, synchronized ones where a rank has no videos."""

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from torch import nn

from lightning_modules import C3D, CNNLSTM
from tests.lightning_modules.clip_batches import moving_bars

NORMS = (nn.BatchNorm2d, nn.BatchNorm3d)


def small(**chosen):
    torch.manual_seed(0)
    return C3D(width=2, crop_size=32, batch_norm=True, num_classes=2, learning_rate=0.1, **chosen)


def different_batches(*sizes: int):
    batches = [moving_bars(size) for size in sizes]
    return [batch._replace(clips=batch.clips // (2 + number)) for number, batch in enumerate(batches)]


def fit(model, folder, batches, validate=True, callbacks=(), **more):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", default_root_dir=folder, callbacks=list(callbacks), **quiet, **more)
    loader = torch.utils.data.DataLoader(batches, batch_size=None, shuffle=False)
    trainer.fit(model, loader, torch.utils.data.DataLoader([moving_bars(2)], batch_size=None) if validate else None)


def statistics(model):
    return {name: value.clone() for name, value in model.stages.state_dict().items() if "running_" in name}


class Fresh(list):
    """Batches that are read from this list, each as a copy."""

    def __getitem__(self, number):
        batch = super().__getitem__(number)
        return batch._replace(clips=batch.clips.clone())


class Reuse(Callback):
    """A loader whose worker writes the next batch to the same memory."""

    batch = None

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        if self.batch is not None:
            self.batch.clips.zero_()
        self.batch = batch


@pytest.mark.parametrize("validate", [True, False])
def test_precise_statistics_are_those_of_all_that_passed(tmp_path, validate):
    """The first norm's input is known by hand; its mean and unbiased variance over the 2 + 4 latest clips.

    After the second epoch, so with the weights of that time.
    """
    model = small(precise_bn_batches=2)
    batches = different_batches(3, 2, 4)
    fit(model, tmp_path, Fresh(batches), validate, [Reuse()], max_epochs=2)
    convolution, norm = model.stages.conv1a[0], model.stages.conv1a[1]
    with torch.no_grad():
        outputs = torch.cat([convolution(model.normalize(batch)) for batch in batches[1:]])
    variance, mean = torch.var_mean(outputs, (0, 2, 3, 4))
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)


def test_with_one_batch_every_norm_has_what_training_mode_would_give(tmp_path):
    model = small(precise_bn_batches=1, dropout=0.0)
    fit(model, tmp_path, different_batches(3, 4), max_epochs=1)
    precise = statistics(model)
    for module in model.modules():
        if isinstance(module, NORMS):
            module.momentum = 1.0
    model.train()(different_batches(3, 4)[1])
    # torch's own sums are rough on the CPU: on values about 1, its means are off by 3e-4.
    torch.testing.assert_close(statistics(model), precise, rtol=2e-3, atol=1e-3)


class Modes(Callback):
    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        assert model.stages.conv2a.training
        assert not model.stages.conv1a.training


def test_weights_are_the_same_with_and_without_and_frozen_norms_stay(tmp_path):
    batches, frozen = different_batches(3, 4), {"freeze": ["conv1a"]}
    first, second = small(**frozen), small(**frozen, precise_bn_batches=5)
    before = statistics(second)
    for model in (first, second):
        fit(model, tmp_path, batches, max_epochs=2, callbacks=[Modes()], num_sanity_val_steps=2)
    for (name, weight), other in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(weight, other), name
    moved, precise = statistics(first), statistics(second)
    alike = {name.split(".")[0] for name in precise if precise[name].equal(moved[name])}
    assert alike == {"conv1a"}
    assert precise["conv1a.1.running_mean"].equal(before["conv1a.1.running_mean"])


def test_a_network_that_reads_frames_in_chunks_has_precise_statistics_too(tmp_path):
    model = CNNLSTM(num_classes=2, channels=(4,), hidden_size=4, frames_at_once=10, precise_bn_batches=1)
    [batch] = different_batches(2)
    fit(model, tmp_path, [batch], max_epochs=1)
    convolution, norm = model.stages.frames.network.blocks[:2]
    frames = model.normalize(batch).transpose(1, 2).flatten(0, 1)
    variance, mean = torch.var_mean(convolution(frames), (0, 2, 3))
    torch.testing.assert_close((norm.running_mean, norm.running_var), (mean, variance))


def without_videos():
    batch = moving_bars(2)
    return batch._replace(
        clips=batch.clips[:0], labels=batch.labels[:0], keys=[], rows=batch.rows[:0], video_index=batch.video_index[:0]
    )


def test_a_rank_without_videos_takes_part_in_synchronized_batch_norms():
    """The others wait for it in each of them, forward and backward; its gradients are zero, none is missing."""
    model = nn.SyncBatchNorm.convert_sync_batchnorm(small(freeze=["conv1a"]))
    passed = []

    def note(name, output):
        passed.append(name)
        if output.requires_grad:
            output.register_hook(lambda _: passed.append(name))

    for name, module in model.named_modules():
        if isinstance(module, nn.SyncBatchNorm):
            module.register_forward_hook(lambda _, __, output, name=name: note(name, output))
    seen = []
    model.stages.conv1a.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().abs().max().item()))
    model.train().training_step(without_videos(), 0).backward()
    assert seen == [pytest.approx(0, abs=0.01)]  # a clip of the mean color, which moves the statistics least
    assert len(passed) == 16
    assert passed[8:] == passed[7::-1]
    assert all(weight.grad is not None and not weight.grad.any() for weight in model.parameters())
