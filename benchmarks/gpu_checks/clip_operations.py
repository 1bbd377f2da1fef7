"""Operations on clips by themselves: poolings in one pass or three, planes to RGB, RandAugment."""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_checks.results import Results, Settings
from benchmarks.turns import Spent, count, ratio, spread, take_turns
from datamodules.batch import ClipBatch, Window
from datamodules.transforms.device_augmentation import Augmentation
from datamodules.transforms.rand_augment import RandAugment
from datamodules.transforms.yuv420 import color_factors, num_enclosing_pairs, to_rgb

_BT601, _LIMITED = 5, 1


class Pooling(NamedTuple):
    """A max pooling of a network: channels and places of a clip, window, stride and padding."""

    channels: int
    places: tuple[int, int, int]
    window: tuple[int, int, int]
    stride: tuple[int, int, int]
    padding: tuple[int, int, int]

    def once(self, x: Tensor) -> Tensor:
        """Over the whole window at once, as the networks do."""
        return F.max_pool3d(x, self.window, self.stride, self.padding)

    def in_passes(self, x: Tensor) -> Tensor:
        """Axis by axis: the same maxima of 3 + 3 + 3 instead of 27 elements."""
        for axis, size in enumerate(self.window):
            if size > 1:
                along = [[values[axis] if one == axis else rest for one in range(3)] for values, rest in
                         ((self.window, 1), (self.stride, 1), (self.padding, 0))]  # fmt: skip
                x = F.max_pool3d(x, *along)
        return x

    def by_maxima(self, x: Tensor) -> Tensor:
        """Axis by axis, as maxima over views of the windows, which torch.compile fuses."""
        for axis, (size, step, pad) in enumerate(zip(self.window, self.stride, self.padding, strict=True), start=2):
            if size > 1:
                x = F.pad(x, [0, 0] * (4 - axis) + [pad, pad], value=-torch.inf).unfold(axis, size, step).amax(-1)
        return x


POOLINGS = {
    "I3D's MaxPool3d_2a": Pooling(64, (32, 112, 112), (1, 3, 3), (1, 2, 2), (0, 1, 1)),
    "I3D's Mixed_3c": Pooling(256, (32, 28, 28), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    "I3D's Mixed_4f": Pooling(528, (16, 14, 14), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
}


def poolings(settings: Settings, results: Results) -> None:
    """Forward and backward passes of I3D's poolings in bf16, channels last, one way beside the others."""
    device, clips = torch.device(settings.device), 1 if settings.tiny else 8
    for name, whole in POOLINGS.items():
        pooling = whole
        if settings.tiny:
            pooling = whole._replace(channels=8, places=(4, 8, 8))
        shape = (clips, pooling.channels, *pooling.places)
        x = torch.randn(shape, device=device, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last_3d)
        backend = "eager" if settings.tiny else "inductor"
        ways = {
            "max_pool3d": pooling.once,
            "three passes": pooling.in_passes,
            "maxima of views, compiled": torch.compile(pooling.by_maxima, dynamic=False, backend=backend),
        }
        expected = pooling.once(x)
        for way, pool in ways.items():
            if not torch.equal(pool(x), expected):
                raise ValueError(f"{name}: {way} gives other maxima than max_pool3d")
        spent = _time({way: _both_passes(pool, x) for way, pool in ways.items()}, settings)
        for way, rounds in spent.items():
            milliseconds = spread([1000 * one.wall / clips for one in rounds], 3)
            quicker = "" if way == "max_pool3d" else f", {ratio(spent['max_pool3d'], rounds, 'wall')} times as fast"
            results.add(f"{name}, {count(clips, 'clip')}, both passes: {way}", f"{milliseconds} ms a clip{quicker}")


def _both_passes(pool: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    leaf = x.detach().requires_grad_()
    gradient = torch.ones_like(pool(x))

    def run() -> None:
        torch.autograd.grad(pool(leaf), leaf, gradient)

    return run


def pixels(settings: Settings, results: Results) -> None:
    """Planes to RGB, and RandAugment of RGB clips: time of the device, and of the host, which launches the kernels."""
    for frames, size, clips in ((4, 32, 2),) if settings.tiny else ((64, 224, 24), (16, 112, 64)):
        planes = random_planes(frames, size, clips, torch.device(settings.device))
        rgb = to_rgb(planes)._replace(seeds=list(range(clips)))
        augment = Augmentation(RandAugment(2, 9.0))
        for name, work in (("i420 to RGB", partial(to_rgb, planes)), ("RandAugment", partial(augment, rgb))):
            work()
            launched = [_launch_s(work, settings) for _ in range(1 if settings.tiny else 5)]
            rounds = _time({name: work}, settings)[name]
            told = f"{spread([1000 * one.wall / clips for one in rounds], 3)} ms a clip"
            host = 1000 * statistics.median(launched) / clips
            results.add(f"{name}, {clips} clips of {frames} x {size}", f"{told}, of the host {host:.3f}")


def random_planes(frames: int, size: int, clips: int, device: torch.device) -> ClipBatch:
    """A batch of random planes whose windows begin at odd and even places, every second one mirrored."""
    pairs = num_enclosing_pairs(size)
    values = torch.randint(0, 256, (clips, frames, 3 * pairs, 2 * pairs), dtype=torch.uint8)
    windows = [
        Window(2 * size, 2 * size, number % 2, number // 2 % 2, size, size, number % 2 == 1) for number in range(clips)
    ]
    colors = torch.tensor([color_factors(_BT601, _LIMITED)] * clips, dtype=torch.int32, device=device)
    batch = ClipBatch.from_clips(values)
    return batch._replace(clips=values.to(device), pixel_format="i420", colors=colors, windows=windows)


def _time(ways: dict[str, Callable[[], object]], settings: Settings) -> dict[str, list[Spent]]:
    """Times of one call, of turns in which each way is called several times before the device is waited for."""
    calls = 1 if settings.tiny else 20

    def repeat(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(calls):
                work()
            if settings.device == "cuda":
                torch.cuda.synchronize()

        return run

    spent = take_turns({name: repeat(work) for name, work in ways.items()}, 1 if settings.tiny else 5)
    return {name: [Spent(one.wall / calls, one.processor / calls) for one in rounds] for name, rounds in spent.items()}


def _launch_s(work: Callable[[], object], settings: Settings) -> float:
    began = time.perf_counter()
    work()
    took = time.perf_counter() - began
    if settings.device == "cuda":
        torch.cuda.synchronize()
    return took
