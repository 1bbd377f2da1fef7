"""`space_to_depth: true` changes how the first convolution is computed, and nothing else."""

import pytest
import torch
import torch.nn.functional as F

from lightning_modules import C3D, I3D, InceptionV1
from lightning_modules.layers.batch_norm_folding import fold_batch_norms
from lightning_modules.layers.execution_options import ExecutionOptions
from lightning_modules.layers.space_to_depth import convolve_blocks
from tests.lightning_modules.layers.test_compilation import CountingBackend

BLOCKS = ExecutionOptions(space_to_depth=True)


@pytest.mark.parametrize("size", [(9, 14, 21), (16, 15)])
@pytest.mark.parametrize("kernel", [7, 6, 3])
@pytest.mark.parametrize("padding", [0, 3])
def test_it_is_the_convolution_and_its_gradients(size, kernel, padding):
    torch.manual_seed(0)
    axes = len(size)
    x = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, *[kernel] * axes, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(5, dtype=torch.float64)
    direct = (F.conv3d if axes == 3 else F.conv2d)(x, weight, bias, stride=2, padding=padding)
    blocks = convolve_blocks(x, weight, bias, [2] * axes, [padding] * axes)
    assert torch.allclose(blocks, direct, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(direct)
    gradients = [torch.autograd.grad(output, (x, weight), upstream) for output in (blocks, direct)]
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: I3D(num_classes=2), (1, 3, 9, 33, 47)),
        (lambda: I3D(num_classes=2, padding="symmetric", bn_scale=True), (1, 3, 16, 32, 32)),
        (lambda: I3D(num_classes=2, time_padding="replicate"), (1, 3, 9, 32, 32)),
        (lambda: InceptionV1(num_classes=2), (2, 3, 1, 47, 33)),
    ],
)
def test_networks_give_the_same_and_keep_their_weights(make, shape):
    torch.manual_seed(0)
    network = make().double().eval()
    x = torch.randn(shape, dtype=torch.float64)
    first = network.endpoints_available[0]
    direct, names = network.endpoints(x, [first])[first], list(network.state_dict())
    BLOCKS.apply_layout(network)
    assert torch.allclose(network.endpoints(x, [first])[first], direct, rtol=1e-9, atol=1e-9)
    fold_batch_norms(network)
    assert torch.allclose(network.endpoints(x, [first])[first], direct, rtol=1e-9, atol=1e-9)
    assert list(make().state_dict()) == names


def test_compiled_it_is_one_graph_with_the_same_result():
    torch._dynamo.reset()
    network, backend = I3D(num_classes=2).eval(), CountingBackend()
    stem = network.stages[0]
    x = torch.randn(1, 3, 8, 32, 32)
    direct = stem(x)
    BLOCKS.apply_layout(network)
    compiled = torch.compile(stem, backend=backend, fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(compiled(x), direct, atol=1e-5)
    assert len(backend.graphs) == 1
    torch._dynamo.reset()


def test_a_network_without_such_a_convolution_says_so():
    with pytest.raises(ValueError, match="no convolution of C3D has a stride of 2"):
        BLOCKS.apply_layout(C3D(width=1, crop_size=32, num_classes=2))
