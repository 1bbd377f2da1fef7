"""Arithmetic of float32 and choice of convolution kernels on a GPU, set for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def convolution_settings(tf32: bool, benchmark: bool = False) -> Iterator[None]:
    """Context in which float32 is computed in TF32 or not, and cuDNN times its kernels or not.

    Args:
        tf32: whether convolutions and products of matrices round float32 to TF32, 10 bits of mantissa. Torch's default
            is yes for convolutions and no for products.
        benchmark: whether cuDNN tries its kernels for each new shape, as the Trainer's option `benchmark`.
    """
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32
    cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32 = benchmark, tf32, tf32
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32, products.allow_tf32 = before
