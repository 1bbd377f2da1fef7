"""A checkpoint opened to judge or export with: the network of training, made quicker, and the file as it was."""

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from lightning_modules import VideoClassifier
from pipeline.inference.trained_checkpoint import open_checkpoint


def test_batch_norms_are_folded_and_every_layer_gives_the_same(motion_checkpoint):
    trained, opened = VideoClassifier.load(motion_checkpoint), open_checkpoint(motion_checkpoint).model
    assert sum(isinstance(module, _BatchNorm) for module in trained.modules()) == 8
    assert not any(isinstance(module, _BatchNorm) for module in opened.modules())
    assert not opened.training
    x = torch.randn(2, 3, 16, 32, 32)
    with torch.inference_mode():
        expected = trained.endpoints(x, trained.endpoints_available)
        found = opened.endpoints(x, trained.endpoints_available)
    for name, feature in expected.items():
        assert (found[name] - feature).norm() < 1e-5 * feature.norm(), name


def test_the_checkpoint_still_gives_the_network_that_was_trained(motion_checkpoint):
    content = motion_checkpoint.read_bytes()
    open_checkpoint(motion_checkpoint)
    assert motion_checkpoint.read_bytes() == content
    assert "stages.conv1a.1.running_mean" in VideoClassifier.load(motion_checkpoint).state_dict()
