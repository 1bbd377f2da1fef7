"""Layout and recomputation: other ways to the same numbers."""

import pytest
import torch
from pytorch_lightning import Trainer

from lightning_modules import C3D, CNNLSTM, I3D, VideoClassifier
from lightning_modules.layers.execution_options import recompute_activations, use_channels_last
from tests.lightning_modules.clip_batches import moving_bars

SMALL = {
    "C3D": lambda **kwargs: C3D(width=4, crop_size=32, batch_norm=True, num_classes=2, **kwargs),
    "CNNLSTM": lambda **kwargs: CNNLSTM(channels=(8, 16), hidden_size=12, num_classes=2, **kwargs),
    "I3D": lambda **kwargs: I3D(num_classes=2, **kwargs),
}


def make(name, **kwargs):
    torch.manual_seed(0)
    return SMALL[name](**kwargs).train()


def bytes_kept(model, x):
    """Bytes of activations that the forward pass keeps for the backward pass; then loss, gradients and buffers."""
    kept = {}
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = model.clip_logits(x).square().sum()
    loss.backward()
    gradients = [weight.grad for weight in model.parameters() if weight.requires_grad]
    return sum(kept.values()), [loss.detach(), *gradients, *(buffer.clone() for buffer in model.buffers())]


@pytest.mark.parametrize(
    ("name", "chosen"), [("C3D", ["conv", "pool", "fc"]), ("CNNLSTM", True), ("I3D", ["Mixed", "Logits"])]
)
def test_recomputing_gives_the_same_gradients_and_statistics_with_dropout(name, chosen):
    x = torch.randn(2, 3, 16, 32, 32)
    whole, less = make(name), make(name)
    recompute_activations(less, less.stages, chosen)
    (many, expected), (few, found) = bytes_kept(whole, x), bytes_kept(less, x)
    assert len(expected) == len(found)
    assert all(torch.equal(first, second) for first, second in zip(expected, found, strict=True))
    assert less.state_dict().keys() == whole.state_dict().keys()
    assert all(norm.momentum == 0.1 for norm in less.modules() if hasattr(norm, "momentum"))
    if name == "I3D":
        assert few < 0.6 * many


def test_a_stage_that_does_not_exist_is_named():
    model = make("C3D")
    with pytest.raises(ValueError, match="checkpoint_activations: 'Mixed' is no layer of C3D; its stages are conv1a"):
        recompute_activations(model, model.stages, ["Mixed"])


def fit(model, folder, **trainer):
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", default_root_dir=folder, max_epochs=1, **quiet, **trainer)
    trainer.fit(model, torch.utils.data.DataLoader([moving_bars(4)] * 2, batch_size=None))
    return trainer


def test_the_option_recomputes_in_training_and_the_checkpoint_does_not_show_it(tmp_path):
    runs = []
    for chosen in (False, True):
        model = make("C3D", checkpoint_activations=chosen)
        fit(model, tmp_path).save_checkpoint(tmp_path / "last.ckpt")
        assert ("forward" in vars(model.stages.conv3a)) == chosen
        assert "forward" not in vars(model.stages.logits)
        runs.append(VideoClassifier.load(tmp_path / "last.ckpt").state_dict())
    assert all(torch.equal(first, second) for first, second in zip(*(run.values() for run in runs), strict=True))


@pytest.mark.parametrize("name", ["C3D", "CNNLSTM"])
def test_channels_last_is_a_layout_only(name, tmp_path):
    model, x = make(name).eval(), torch.randn(2, 3, 16, 32, 32)
    expected = model.clip_logits(x)
    use_channels_last(model)
    torch.testing.assert_close(model.clip_logits(x), expected)
    model = make(name, channels_last=True)
    fit(model, tmp_path).save_checkpoint(tmp_path / "last.ckpt")
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    filters = [weight for weight in model.parameters() if weight.ndim in formats]
    assert filters
    assert all(weight.is_contiguous(memory_format=formats[weight.ndim]) for weight in filters)
    loaded = VideoClassifier.load(tmp_path / "last.ckpt")
    torch.testing.assert_close(loaded.clip_logits(x), model.eval().clip_logits(x))
