"""Training steps of the networks without loader and Lightning: clips/s, share of the products' rate, peak memory."""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu_checks.cuda_settings import convolution_settings
from benchmarks.gpu_checks.machine import PRODUCT
from benchmarks.gpu_checks.results import Goal, Results, Settings
from benchmarks.networks.model import CLASSES, NETWORKS, Network, logits_of, peak
from benchmarks.networks.plain_networks import PlainC3D
from benchmarks.turns import Spent, ratio, spend, spread, take_turns
from lightning_modules import C3D, VideoClassifier
from lightning_modules.layers.compilation import compile_network
from lightning_modules.layers.execution_options import use_channels_last
from lightning_modules.layers.space_to_depth import use_space_to_depth

_ROUNDS, _LEAST_S = 5, 0.4  # of each way: turns, and seconds of one


class Workload(NamedTuple):
    """What is trained, and what for.

    Attributes:
        network: ours and the plain one, with the clips of its paper.
        batch: clips of a step.
        goal: share of the products' rate in bf16.
        compiled_goal: the same with torch.compile and, where there is one, space to depth; None for no such goal.
    """

    network: Network
    batch: int
    goal: float
    compiled_goal: float | None = None


WORKLOADS = {
    "C3D": Workload(NETWORKS["c3d"], 64, 0.30),
    "I3D": Workload(NETWORKS["i3d"], 24, 0.15, 0.25),
    "CNN+LSTM": Workload(NETWORKS["cnn_lstm"], 32, 0.12),
}
_TINY_C3D = Network(
    lambda: C3D(num_classes=CLASSES, dropout=0.0, width=4, crop_size=32),
    partial(PlainC3D, width=4, crop_size=32),
    16,
    32,
)


def workload_of(name: str, tiny: bool) -> Workload:
    """A workload; with `tiny` a batch of 2 clips of 32 x 32, of 8 frames (C3D: 16, and a width of 4)."""
    whole = WORKLOADS[name]
    if not tiny:
        return whole
    network = _TINY_C3D if name == "C3D" else whole.network._replace(frames=8, size=32)
    return whole._replace(network=network, batch=2)


class Way(NamedTuple):
    """How a network is trained.

    Attributes:
        plain: the plain eager float32 network with every channel's frames apart, instead of ours in bf16 and channels
            last with cuDNN's `benchmark`.
        tf32: whether float32 is computed in TF32.
        space_to_depth: as the option of our networks.
        compiled: as the option `compile`.
    """

    plain: bool = False
    tf32: bool = True
    space_to_depth: bool = False
    compiled: bool = False


BF16, FLOAT32, TF32 = "bf16", "plain float32, TF32 off", "plain float32, TF32 on"
COMPILED, BLOCKS, BOTH = "bf16, compile", "bf16, space_to_depth", "bf16, compile and space_to_depth"
WAYS = {
    BF16: Way(),
    FLOAT32: Way(plain=True, tf32=False),
    TF32: Way(plain=True),
    COMPILED: Way(compiled=True),
    BLOCKS: Way(space_to_depth=True),
    BOTH: Way(compiled=True, space_to_depth=True),
}


class TrainingSteps:
    """A network and its optimizer, which train on one batch that stays on the device; the first step is taken.

    Args:
        workload: network and batch.
        way: how it is trained.
        settings: the device, and whether it is only tried.

    Attributes:
        per_turn: steps that take long enough to be timed.
    """

    def __init__(self, workload: Workload, way: Way, settings: Settings) -> None:
        torch.manual_seed(0)
        device = torch.device(settings.device)
        network = workload.network
        self._network: nn.Module = network.plain(CLASSES) if way.plain else network.ours()
        if not way.plain:
            use_channels_last(self._network)
        if way.space_to_depth:
            use_space_to_depth(self._network)
        self._network.to(device).train()
        if way.compiled:
            assert isinstance(self._network, VideoClassifier), "plain networks are eager"
            # On a CPU even the smallest graphs of I3D take minutes to compile: there only their making is tried.
            compile_network(self._network.compiled_part, device, "eager" if settings.tiny else "inductor")
        parameters = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, nesterov=True)
        shape = (workload.batch, network.frames, network.size, network.size, 3)
        self._clips = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        self._labels = torch.randint(0, CLASSES, (workload.batch,), device=device)
        self._way, self._device = way, device
        self.run(1)  # cuDNN's benchmark, compilation
        took = spend(partial(self.run, 1)).wall
        self.per_turn = 1 if settings.tiny else max(1, round(_LEAST_S / max(took, 1e-4)))

    def run(self, count: int) -> None:
        """Takes so many steps and waits for the device once, at their end."""
        with convolution_settings(self._way.tf32, benchmark=not self._way.plain):
            for _ in range(count):
                self._step()
            if self._device.type == "cuda":
                torch.cuda.synchronize()

    def _step(self) -> None:
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=not self._way.plain):
            loss = F.cross_entropy(logits_of(self._network, self._clips).float(), self._labels)
        loss.backward()
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)


def operations_of(network: Network) -> int:
    """Floating-point operations of a training step of one clip, counted without computing anything."""
    with torch.device("meta"):
        model, clips = network.ours().train(), torch.zeros(2, 3, network.frames, network.size, network.size)
    with FlopCounterMode(display=False) as counter:
        model.clip_logits(clips).sum().backward()
    return counter.get_total_flops() // len(clips)


def time_ways(workload: Workload, names: tuple[str, ...], settings: Settings) -> tuple[dict[str, list[float]], str]:
    """Seconds of a step of each way in every round, the ways taking turns, and the peak memory of the first."""
    trained: dict[str, TrainingSteps] = {}
    memory = ""
    for name in names:
        trained[name] = TrainingSteps(workload, WAYS[name], settings)
        memory = memory or peak(partial(trained[name].run, 1), torch.device(settings.device))
    turns = {name: partial(steps.run, steps.per_turn) for name, steps in trained.items()}
    spent = take_turns(turns, 1 if settings.tiny else _ROUNDS, warm_up=0 if settings.tiny else 1)
    return {name: [one.wall / trained[name].per_turn for one in rounds] for name, rounds in spent.items()}, memory


def describe(name: str, workload: Workload, way: str) -> str:
    """The question of a row, by which later sections find its number."""
    return f"{name}, {workload.batch} clips: training step, {way}"


def _add_ways(name: str, ways: tuple[str, ...], settings: Settings, results: Results) -> dict[str, list[float]]:
    """Adds a row for each way, with its share of the products' rate where it computes in bf16."""
    workload = workload_of(name, settings.tiny)
    operations, product = operations_of(workload.network), results.value(PRODUCT)
    seconds, memory = time_ways(workload, ways, settings)
    for number, (way, rounds) in enumerate(seconds.items()):
        rates = [workload.batch / one for one in rounds]
        rate = sorted(rates)[len(rates) // 2]
        told, share, goal = f"{spread(rates, 1)} clips/s", None, None
        if product is not None and not WAYS[way].plain:
            share = rate * operations / 1e12 / product
            told += f", {rate * operations / 1e12:.1f} TFLOP/s, {100 * share:.1f} % of the product's"
            goal = workload.goal if way == BF16 else workload.compiled_goal if way == _best_of(ways) else None
        told += f", {1000 * workload.batch / rate:.1f} ms a step"
        if number == 0 and settings.device == "cuda":
            told += f", {memory} GB at most"
        results.add(describe(name, workload, way), told, share, None if goal is None else Goal(goal))
    return seconds


def _best_of(ways: tuple[str, ...]) -> str:
    return ways[-1] if WAYS[ways[-1]].compiled else ""


def bare_steps(name: str, settings: Settings, results: Results) -> None:
    """A network in bf16 beside the plain one in float32, with TF32 and without."""
    seconds = _add_ways(name, (BF16, FLOAT32, TF32), settings, results)
    for way, goal in ((FLOAT32, 4.0), (TF32, 2.5)):
        quicker = [slow / quick for slow, quick in zip(seconds[way], seconds[BF16], strict=True)]
        value = sorted(quicker)[len(quicker) // 2]
        results.add(f"{name}: bf16 beside {way}", f"{spread(quicker)} times", value, Goal(goal, "times"))


def compiled_steps(name: str, settings: Settings, results: Results) -> None:
    """A network in bf16 eager, compiled, and with its first convolution on blocks of pixels."""
    ways = (BF16, COMPILED) if name == "C3D" else (BF16, BOTH) if settings.tiny else (BF16, BLOCKS, COMPILED, BOTH)
    seconds = _add_ways(name, ways, settings, results)
    eager = [Spent(one, one) for one in seconds[BF16]]
    for way in ways[1:]:
        told = ratio(eager, [Spent(one, one) for one in seconds[way]], "wall")
        results.add(f"{name}: {way} beside {BF16}", f"{told} times")
