"""`doctor` holds 16-bit gradients against those in float32, and judges by what the run would get."""

import math

import pytest
import torch

from pipeline.doctor.precision_check import (
    TOLERANCE,
    ConvolutionSpec,
    GradientError,
    check_precision,
    compute_gradients,
    refuse_wrong_cudnn,
    summarize_errors,
    worst_gradient_error,
)

SHORT = ConvolutionSpec(8, 8, 2, 5, 3, 1)


def compared(ours=0.003, by_itself=0.003, device="processor", run=True):
    layers = (("conv3", 0.002, 0.002), ("conv5", ours, by_itself))
    return [
        GradientError(device, run, whose, layer, error)
        for whose in (True, False)
        for layer, one, other in layers
        for error in ([one] if whose else [other])
    ]


def test_what_is_right_is_told_with_its_error():
    told = summarize_errors(
        compared(), is_half=True, is_foreign=False, crash_message="", own_crashed=False, slow_warning="slow."
    )
    assert told == "16-bit gradients of 3D convolutions are within 3.0e-03 (processor) of float32's; slow."


@pytest.mark.parametrize("error", [1.0, math.inf, TOLERANCE])
def test_wrong_gradients_fail_where_the_precision_asks_for_them(error):
    with pytest.raises(
        ValueError, match=r"are wrong in 16 bits: .* for conv5, 1 of 8 layers, on the processor: set tr"
    ):
        summarize_errors(
            compared(ours=error), is_half=True, is_foreign=False, crash_message="", own_crashed=False, slow_warning=None
        )
    told = summarize_errors(
        compared(ours=error), is_half=False, is_foreign=False, crash_message="", own_crashed=False, slow_warning=None
    )
    assert "wrong, so keep precision 32-true there: " in told


def test_torchs_own_wrong_gradients_fail_networks_of_others_alone():
    found = compared(by_itself=1.1)
    told = summarize_errors(
        found, is_half=True, is_foreign=False, crash_message="", own_crashed=False, slow_warning=None
    )
    assert "torch's own way is wrong, ours avoids it: 1.1e+00 off for conv5, 1 of 8 layers, on the processor" in told
    with pytest.raises(ValueError, match=r"32-true, or convolve with lightning_modules\.layers\.onednn"):
        summarize_errors(found, is_half=True, is_foreign=True, crash_message="", own_crashed=False, slow_warning=None)


def test_a_device_that_the_run_does_not_take_fails_nothing():
    found = compared(device="GPU 0 (X)") + compared(ours=1.0, run=False)
    told = summarize_errors(
        found, is_half=True, is_foreign=False, crash_message="", own_crashed=False, slow_warning=None
    )
    assert "within 3.0e-03 (GPU 0 (X)), 2.0e-03 (processor) of float32's" in told
    assert "keep precision 32-true there: 1.0e+00 off for conv5, 1 of 8 layers, on the processor" in told


def test_a_crash_fails_whom_it_would_take_down():
    told = summarize_errors(
        compared(), is_half=True, is_foreign=False, crash_message="down", own_crashed=False, slow_warning=None
    )
    assert told.endswith("; down")
    for foreign, ours_crash in ((True, False), (False, True)):
        with pytest.raises(ValueError, match="in 16 bits: down: set"):
            summarize_errors(
                compared(),
                is_half=True,
                is_foreign=foreign,
                crash_message="down",
                own_crashed=ours_crash,
                slow_warning=None,
            )


@pytest.mark.parametrize("ours", [True, False])
def test_what_is_compared_is_computed_in_bf16(ours):
    """Rounded to 8 bits: neither the same as in float32, nor (by ours, on any processor) far from it."""
    error = worst_gradient_error(SHORT, "cpu", torch.bfloat16, ours)
    assert error > 5e-4
    assert not ours or error < TOLERANCE
    shapes = [tuple(each.shape) for each in compute_gradients(SHORT, "cpu", torch.bfloat16, ours)]
    assert shapes == [(8, 8, 3, 3, 3), (8,), (1, 8, 2, 5, 5)]


def test_a_cudnn_that_is_wrong_for_large_clips_is_refused():
    for right in (0, 90701, 91500, 92000):
        refuse_wrong_cudnn(right)
    for wrong, name in ((90800, "9.8.0"), (91002, "9.10.2"), (91400, "9.14.0")):
        with pytest.raises(ValueError, match=f"cuDNN {name} convolves .*: install 9.15"):
            refuse_wrong_cudnn(wrong)


@pytest.mark.slow
def test_this_machine():
    told = check_precision("bf16-mixed", None, is_foreign=False)
    assert told.startswith("16-bit gradients of 3D convolutions are within ")
    assert "processor" in told
    assert "keep precision 32-true" not in told
