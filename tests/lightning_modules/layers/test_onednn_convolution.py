"""Convolutions by oneDNN: in inference alone, with the results and errors of torch's own choice."""

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from lightning_modules import C3D, CNNLSTM, I3D
from lightning_modules.layers.onednn_convolution import convolve

ONEDNN = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")
SMALL = {
    "C3D": (lambda: C3D(width=4, crop_size=32, num_classes=2), 16),
    "CNNLSTM": (lambda: CNNLSTM(encoder="inception_v1", num_classes=2), 8),
    "I3D": (lambda: I3D(num_classes=2), 16),
}


@pytest.fixture(autouse=True)
def one_thread():
    """With several, torch leaves less to its slow convolution."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ran(work):
    """Names of the operations that ran."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        work()
    return {event.key for event in profiled.key_averages()}


@pytest.mark.skipif(not ONEDNN, reason="a processor without AVX")
@pytest.mark.parametrize("name", SMALL)
def test_inference_on_one_clip_takes_no_slow_convolution(name):
    make, frames = SMALL[name]
    model, x = make().eval(), torch.randn(1, frames, 32, 32, 3).permute(0, 4, 1, 2, 3)

    def infer():
        with torch.inference_mode():
            model.endpoints(x, [model.feature_layer])

    operations = ran(infer)
    assert "aten::mkldnn_convolution" in operations
    assert [name for name in operations if "slow_conv" in name] == []


@pytest.mark.parametrize("kernel", [(1, 1, 1), (3, 3, 3), (3, 3), (7, 7)])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_numbers_as_torchs_own_choice(kernel, channels_last, dtype):
    torch.manual_seed(0)
    weight, bias = torch.randn(5, 4, *kernel, dtype=dtype), torch.randn(5, dtype=dtype)
    x = torch.randn(2, *[9] * len(kernel), 4, dtype=dtype).movedim(-1, 1)
    x = x if channels_last else x.contiguous()
    stride, padding = (2,) * len(kernel), tuple(size // 2 for size in kernel)
    own = (F.conv3d if len(kernel) == 3 else F.conv2d)(x, weight, bias, stride, padding)
    with torch.no_grad():
        torch.testing.assert_close(convolve(x, weight, bias, stride, padding), own, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_groups_and_spacing_are_passed_on(dtype):
    torch.manual_seed(0)
    x, weight = torch.randn(1, 4, 9, 11, dtype=dtype), torch.randn(6, 2, 3, 2, dtype=dtype)
    expected = F.conv2d(x, weight, None, (2, 1), (2, 1), (2, 3), groups=2)
    with torch.no_grad():
        torch.testing.assert_close(convolve(x, weight, None, (2, 1), (2, 1), (2, 3), 2), expected, rtol=1e-5, atol=1e-5)


def test_training_and_autocast_have_their_own_ways():
    x, weight = torch.randn(1, 3, 4, 8, 8), torch.randn(2, 3, 3, 3, 3, requires_grad=True)
    arguments = (None, (1, 1, 1), (1, 1, 1))
    assert "aten::conv3d" in ran(lambda: convolve(x, weight, *arguments).sum().backward())
    assert weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert convolve(x, weight, *arguments).dtype == torch.bfloat16


def test_clips_of_another_shape_are_refused_as_torch_does():
    weight = torch.randn(2, 3, 3, 3, 3)
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"expected input\[1, 2, 4, 8, 8\] to have 3 channels"):
        convolve(torch.randn(1, 2, 4, 8, 8), weight, None, (1, 1, 1), (1, 1, 1))
    with torch.no_grad(), pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        convolve(torch.randn(1, 3, 2, 8, 8), weight, None, (1, 1, 1), (0, 0, 0))
