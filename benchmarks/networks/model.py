"""How fast are the networks, beside plain eager float32 ones with the same weights (`plain_networks.py`)?

Both sides begin with the same uint8 clips (N, T, H, W, C), as batches bring them: the plain one makes float clips of
them with every channel's frames apart, ours is normalized by `VideoNetwork.normalize` and stays channels last. Outputs
are compared before anything is timed. Torch's own defaults hold for the plain side (on a GPU, cuDNN's convolutions in
TF32).

    OMP_NUM_THREADS=1 python benchmarks/networks/model.py
    python benchmarks/networks/model.py --device cuda --clips 8 --compile
"""

import argparse
import copy
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import lacks_bf16, lacks_gpu, positive, print_heading
from benchmarks.networks.plain_networks import PlainC3D, PlainCNNLSTM, PlainI3D
from benchmarks.turns import Spent, ratio, spend, take_turns
from datamodules.batch import ClipBatch
from lightning_modules import C3D, CNNLSTM, I3D, VideoClassifier
from lightning_modules.layers.batch_norm_folding import fold_batch_norms
from lightning_modules.layers.compilation import compile_network
from lightning_modules.layers.execution_options import use_channels_last

CLASSES = 400
PLAIN, OURS, BF16 = "plain float32", "ours, float32", "ours, bf16-mixed"
# As `evaluate` and `features` run them: only in the forward pass, and only of networks with batch norms.
FOLDED, FOLDED_BF16 = f"{OURS}, norms folded", f"{BF16}, norms folded"
COMPILED, COMPILED_BF16 = f"{OURS}, compiled", f"{BF16}, compiled"  # as `fit` runs them with compile: true
BF16_SIDES = (BF16, FOLDED_BF16, COMPILED_BF16)
# Logits: the norm of the difference, relative to their norm.
TOLERANCE = {OURS: 1e-3, FOLDED: 1e-3, COMPILED: 1e-3, BF16: 0.1, FOLDED_BF16: 0.1, COMPILED_BF16: 0.1}
GRADIENT_TOLERANCE = 1e-6  # first weights in float64, relative norm; in float32 rounding alone makes 1e-2


class Network(NamedTuple):
    """Ours, the plain one, and the clips of its paper: frames, and height and width."""

    ours: Callable[[], VideoClassifier]
    plain: Callable[[int], nn.Module]
    frames: int
    size: int


NETWORKS = {
    "c3d": Network(lambda: C3D(num_classes=CLASSES, dropout=0.0), PlainC3D, 16, 112),
    "i3d": Network(lambda: I3D(num_classes=CLASSES, dropout=0.0), PlainI3D, 64, 224),
    "cnn_lstm": Network(
        lambda: CNNLSTM(encoder="inception_v1", num_classes=CLASSES, dropout=0.0), PlainCNNLSTM, 16, 224
    ),
}


def draw_statistics(network: nn.Module) -> None:
    """Gives batch norms running statistics that are not those of a network that was never trained."""
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name.endswith("running_mean"):
                value.normal_(std=0.1)
            elif name.endswith("running_var"):
                value.uniform_(0.8, 1.2)


def pair(
    network: Network, device: torch.device, compiled: bool, training: bool
) -> tuple[dict[str, VideoClassifier], nn.Module]:
    """Ours, in several ways, and the plain one, with the same weights and batch norms that do something."""
    torch.manual_seed(0)
    ours, plain = network.ours(), network.plain(CLASSES)
    draw_statistics(ours)
    with torch.no_grad():
        values = [value for name, value in ours.state_dict().items() if name.startswith("stages.")]
        for target, value in zip(plain.state_dict().values(), values, strict=True):
            target.copy_(value)
    use_channels_last(ours)
    sides = {name: copy.deepcopy(ours) for name in (OURS, BF16, *((COMPILED, COMPILED_BF16) if compiled else ()))}
    if not training and fold_batch_norms(ours.eval()):
        sides |= {name: copy.deepcopy(ours) for name in (FOLDED, FOLDED_BF16)}
    for name, side in sides.items():
        side.to(device)
        if name in (COMPILED, COMPILED_BF16):
            compile_network(side.compiled_part, device)
    return sides, plain.to(device)


def logits_of(side: nn.Module, clips: Tensor) -> Tensor:
    """What either side gives for uint8 clips (N, T, H, W, C): (N, K)."""
    if isinstance(side, VideoClassifier):
        return side(ClipBatch.from_clips(clips)).float()
    return side((clips.permute(0, 4, 1, 2, 3).contiguous().float() / 255 - 0.5) / 0.5)


def work_of(side: nn.Module, bf16: bool, clips: Tensor, training: bool) -> Callable[[], Tensor]:
    """One forward pass, or one with its backward pass; gives the logits, or the loss."""
    side.train(training)
    labels = torch.arange(len(clips), device=clips.device)
    autocast = torch.autocast(clips.device.type, dtype=torch.bfloat16, enabled=bf16)

    def forward() -> Tensor:
        with torch.inference_mode(), autocast:
            return _waited(logits_of(side, clips))

    def both() -> Tensor:
        side.zero_grad(set_to_none=True)
        with autocast:
            loss = F.cross_entropy(logits_of(side, clips), labels)
        loss.backward()
        return _waited(loss.detach())

    return both if training else forward


def _waited(result: Tensor) -> Tensor:
    if result.is_cuda:
        torch.cuda.synchronize()
    return result


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of one large product of matrices, the median of several."""
    size = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    rates = [2 * size**3 / _wall(lambda: _waited(a @ b), device) / 1e12 for _ in range(12)]
    return statistics.median(rates[2:])


def _wall(work: Callable[[], object], device: torch.device) -> float:
    spent = spend(work)
    return spent.wall if device.type == "cuda" else spent.processor / torch.get_num_threads()


def check(name: str, works: dict[str, Callable[[], Tensor]]) -> None:
    """Ends where one side's logits are not those of the plain one, within `TOLERANCE`; says how near they are."""
    expected = works[PLAIN]()
    for side, work in works.items():
        if side != PLAIN:
            found = float((work() - expected).norm() / expected.norm())
            print(f"{name}: {side}: logits differ by {found:.1e}", flush=True)
            if found > TOLERANCE[side]:
                raise SystemExit(f"{name}: {side} is not the same network: {found:.1e} > {TOLERANCE[side]:.1e}")


def check_gradients(name: str, network: Network) -> None:
    """Ends where the gradients of the first weights are not the same in float64, for a clip of 16 frames."""
    sides, plain = pair(network, torch.device("cpu"), compiled=False, training=True)
    size = network.size if network.frames == 16 else 64
    x = torch.rand(1, 3, 16, size, size, dtype=torch.float64) - 0.5
    gradients = []
    for run, side in ((plain, plain), (sides[OURS].clip_logits, sides[OURS])):
        side.double().train()
        F.cross_entropy(run(x), torch.zeros(1, dtype=torch.int64)).backward()
        gradients.append(next(side.parameters()).grad)
    expected, found = gradients
    assert expected is not None
    assert found is not None
    difference = float((found - expected).norm() / expected.norm())
    print(f"{name}: gradients of the first weights in float64 differ by {difference:.1e}", flush=True)
    if difference > GRADIENT_TOLERANCE:
        raise SystemExit(f"{name}: not the same network: {difference:.1e} > {GRADIENT_TOLERANCE:.0e}")


def measure(name: str, training: bool, options: argparse.Namespace, rates: dict[bool, float]) -> None:
    """Prints the rows of one network, forward or with its backward pass; those in bf16 where `rates` has it."""
    network, device = NETWORKS[name], torch.device(options.device)
    frames, size = options.frames or network.frames, options.size or network.size
    if name == "c3d":
        frames, size = network.frames, network.size  # its linear layers know them
    clips = torch.randint(0, 256, (options.clips, frames, size, size, 3), dtype=torch.uint8, device=device)
    sides, plain = pair(network, device, options.compile, training)
    measured = {name: side for name, side in sides.items() if (name in BF16_SIDES) in rates}
    everything: dict[str, nn.Module] = {PLAIN: plain, **measured}
    works = {side: work_of(module, side in BF16_SIDES, clips, training) for side, module in everything.items()}
    what = f"{name}, {options.clips} x {frames} x {size} x {size}, {'forward and backward' if training else 'forward'}"
    if training:
        check_gradients(what, network)
    else:
        check(what, works)
    with FlopCounterMode(display=False) as counter:
        works[PLAIN]()
    operations = counter.get_total_flops()
    memory = {side: peak(work, device) for side, work in works.items()}
    spent = take_turns(works, options.rounds)
    kind = "wall" if device.type == "cuda" else "processor"
    for side, rounds in spent.items():
        print(
            _row(what, side, rounds, kind, options.clips, operations, rates[side in BF16_SIDES], memory[side], spent),
            flush=True,
        )


def _row(
    what: str,
    side: str,
    rounds: list[Spent],
    kind: str,
    clips: int,
    operations: int,
    rate: float,
    memory: str,
    spent: dict[str, list[Spent]],
) -> str:
    threads = 1 if kind == "wall" else torch.get_num_threads()
    seconds = statistics.median(getattr(one, kind) for one in rounds) / threads
    tera = operations / seconds / 1e12
    quicker = "" if side == PLAIN else ratio(spent[PLAIN], rounds, kind)
    wall = "" if side == PLAIN else ratio(spent[PLAIN], rounds, "wall")
    cells = [what, side, f"{clips / seconds:.2f}", f"{tera:.2f}", f"{100 * tera / rate:.0f} %", memory, quicker, wall]
    return f"| {' | '.join(cells)} |"


def peak(work: Callable[[], object], device: torch.device) -> str:
    """The most memory that one turn takes on a GPU, weights included, in GB."""
    if device.type != "cuda":
        return "not measured: no GPU"
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    work()
    return f"{torch.cuda.max_memory_allocated() / 1e9:.1f}"


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--passes", nargs="+", choices=("forward", "training"), default=["forward", "training"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--clips", type=positive, default=1)
    parser.add_argument("--frames", type=positive, help="of I3D and CNN+LSTM; default: 64 and 16")
    parser.add_argument("--size", type=positive, help="height and width, of I3D and CNN+LSTM; default: 224")
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--compile", action="store_true", help="measure ours compiled, too")
    options = parser.parse_args()
    print_heading("torch")
    if lacks_gpu(options.device):
        return
    kinds = (False,) if lacks_bf16(options.device) else (False, True)
    rates = {bf16: matmul_rate(torch.device(options.device), _dtype(bf16)) for bf16 in kinds}
    where = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} threads"
    told = ", ".join(f"{rate:.2f} in {'bf16' if bf16 else 'float32'}" for bf16, rate in rates.items())
    print(f"{where}; TFLOP/s of products of matrices: {told}")
    seconds = "seconds" if options.device == "cuda" else "processor seconds"
    columns = ["network", "side", f"clips/{seconds[:-1]}", "TFLOP/s", "of the products' rate", "peak memory, GB"]
    print(f"| {' | '.join([*columns, f'ratio of {seconds}', 'by the clock'])} |\n{'| --- ' * 8}|", flush=True)
    for name in options.networks:
        for passes in options.passes:
            measure(name, passes == "training", options, rates)


def _dtype(bf16: bool) -> torch.dtype:
    return torch.bfloat16 if bf16 else torch.float32


if __name__ == "__main__":
    main()
