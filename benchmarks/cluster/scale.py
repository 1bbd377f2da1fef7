"""On paper: what 1 to 64 nodes of 8 GPUs do on Kinetics-700, and what saturates first. Nothing is run.

Clips/s are the least of what the GPUs compute, what the cores decode and what the network card and the object store
deliver. GPUs wait for that part of the all-reduce that the backward pass does not hide. Every input is an option; the
defaults say where they are from:

    measured    2026-11-23, an Intel Xeon core, 8 Kinetics clips: rows "ours, rgb" of benchmarks/loading/loader.py
    counted     by torch's FlopCounterMode in `benchmarks/gpu_checks/training_steps.py`
    estimated   operations and bytes of every call counted, kernels' rates guessed from their channels: see
                `Network.used`; `benchmarks/gpu.py` measures it where there is a GPU
    published   data sheets, and the number of training videos of Kinetics-700-2020 that CVDF hosts
    assumed     to be replaced by what your cluster has

    python benchmarks/cluster/scale.py
    python benchmarks/cluster/scale.py --cores 192 --i3d-used 0.12 --store 20
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import above_zero, positive, print_heading, share, share_or_zero


class Network(NamedTuple):
    """What one clip of a training costs.

    Attributes:
        tera: operations of a training step, in 10^12 (counted).
        parameters: in millions, whose float32 gradients are summed over the GPUs.
        batch: clips a GPU and step (assumed).
        used: share of the rate of large products of matrices that training reaches (estimated). For bf16, channels
            last, without compilation: the convolutions of 256 channels at 70 % of that rate, of 128 at 60, 64 at 40, 32
            at 28, 16 at 17, the first one at 8 to 10, backward passes 15 % lower; all else at 85 % of 4.3 TB/s. With
            perfect kernels, and nothing fused, it would be 41 % for I3D and 57 % for C3D.
        decoded: clips/s that one core decodes (measured), by what is decoded.
    """

    tera: float
    parameters: float
    batch: int
    used: float
    decoded: dict[str, float]


ORIGINAL, PACKED, SMALL = "original files", "packed, short side 256", "packed, short side 128"


def networks_of(options: argparse.Namespace) -> dict[str, Network]:
    """The two whose training is asked about, with 700 classes."""
    i3d = {ORIGINAL: options.i3d_original, PACKED: options.i3d_packed}
    c3d = {ORIGINAL: options.c3d_original, PACKED: options.c3d_packed, SMALL: options.c3d_small}
    return {
        "I3D, 64 x 224 x 224": Network(0.6140, 13.0, 24, options.i3d_used, i3d),
        "C3D, 16 x 112 x 112": Network(0.2292, 80.9, 64, options.c3d_used, c3d),
    }


class Cluster(NamedTuple):
    """What there is, of one node but for the store; see `main` for the units."""

    gpus: int
    tera: float
    cores: int
    card: float
    store: float
    inside: float
    between: float
    hidden: float


def all_reduce(parameters: float, nodes: int, cluster: Cluster) -> float:
    """Seconds to sum float32 gradients: rings within the nodes, then between them, 20 us for each of their steps."""
    gigabytes = parameters * 4e-3
    inside = 2 * (cluster.gpus - 1) / cluster.gpus * gigabytes / cluster.inside
    between = 2 * (nodes - 1) / nodes * gigabytes / cluster.between
    return inside + between + 20e-6 * 2 * (cluster.gpus - 1 + nodes - 1)


def gpu_rate(network: Network, cluster: Cluster) -> float:
    """Clips/s of one GPU in training, alone."""
    return cluster.tera * network.used / network.tera


def limits(network: Network, data: str, video_mb: float, nodes: int, cluster: Cluster) -> dict[str, float]:
    """Clips/s that each resource allows for, of all nodes together; a clip is read from a video of its own."""
    alone = network.batch / gpu_rate(network, cluster)
    waiting = max(0.0, all_reduce(network.parameters, nodes, cluster) - cluster.hidden * alone * 2 / 3)
    return {
        "GPUs": nodes * cluster.gpus * network.batch / (alone + waiting),
        "decoding": nodes * cluster.cores * network.decoded[data],
        "network cards": nodes * cluster.card * 1e3 / video_mb,
        "object store": cluster.store * 1e3 / video_mb,
    }


def print_needs(networks: dict[str, Network], sizes: dict[str, float], cluster: Cluster) -> None:
    """How many cores and what bandwidth one GPU needs so as never to wait."""
    print("\nOne GPU\n\n| network | data | clips/s it trains | cores to decode them | MB/s to read |")
    print("| --- " * 5 + "|")
    for name, network in networks.items():
        rate = gpu_rate(network, cluster)
        for data, decoded in network.decoded.items():
            print(f"| {name} | {data} | {rate:.0f} | {rate / decoded:.0f} | {rate * sizes[data]:.0f} |")


def print_scaling(
    networks: dict[str, Network], videos: int, nodes: list[int], sizes: dict[str, float], cluster: Cluster
) -> None:
    """Clips/s, what saturates first, and what an epoch takes."""
    for name, network in networks.items():
        for data in network.decoded:
            print(f"\n{name}, {data}\n")
            columns = ["nodes", "GPUs", "clips/s", "saturated", "of what the GPUs could do", "all-reduce, ms"]
            columns += ["step, ms", "cores in use", "store, GB/s", "epoch, s"]
            print(f"| {' | '.join(columns)} |\n{'| --- ' * len(columns)}|")
            for count in nodes:
                of_each = limits(network, data, sizes[data], count, cluster)
                saturated = min(of_each, key=lambda one: of_each[one])
                rate = of_each[saturated]
                cells = [f"{count}", f"{count * cluster.gpus}", f"{rate:,.0f}", saturated]
                cells += [f"{100 * rate / (count * cluster.gpus * gpu_rate(network, cluster)):.0f} %"]
                cells += [f"{1e3 * all_reduce(network.parameters, count, cluster):.1f}"]
                cells += [f"{1e3 * count * cluster.gpus * network.batch / rate:.0f}"]
                cells += [f"{rate / network.decoded[data]:,.0f}", f"{rate * sizes[data] / 1e3:.1f}"]
                print(f"| {' | '.join(cells)} | {videos / rate:.0f} |")


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = (
        ("gpus", 8, "of a node (the question)"),
        ("cores", 96, "of a node, for loaders (assumed)"),
        ("tera", 790.0, "TFLOP/s of a large product of matrices in bf16 on a GPU (assumed: 80 % of an H200's 989.4)"),
        ("i3d-used", 0.18, "share of it that training of I3D reaches (estimated)"),
        ("c3d-used", 0.38, "share of it that training of C3D reaches (estimated)"),
        ("card", 12.5, "GB/s from the store into a node (assumed: 100 Gbit/s)"),
        ("store", 100.0, "GB/s out of the object store, to all nodes (assumed)"),
        ("inside", 450.0, "GB/s of a GPU to the others of its node, one way (published, NVLink 4)"),
        ("between", 50.0, "GB/s of a node to the others, one way (assumed: 400 Gbit/s)"),
        ("hidden", 0.8, "share of the backward pass that hides the all-reduce (assumed)"),
        ("original-mb", 1.84, "of a video as it was (measured: 8 Kinetics clips)"),
        ("packed-mb", 0.63, "packed at short side 256 (measured: the same)"),
        ("small-mb", 0.25, "packed at short side 128 (measured: the same)"),
        ("i3d-original", 2.9, "clips/s a core of I3D's clips from the original files (measured)"),
        ("i3d-packed", 62.7, "of I3D's clips, packed at short side 256 (measured)"),
        ("c3d-original", 4.6, "of C3D's clips from the original files (measured)"),
        ("c3d-packed", 120.5, "of C3D's clips, packed at short side 256 (measured)"),
        ("c3d-small", 409.8, "of C3D's clips, packed at short side 128 (measured)"),
        ("videos", 534_073, "of an epoch (published)"),
    )
    shares = {"i3d-used": share, "c3d-used": share, "hidden": share_or_zero}
    for name, default, text in numbers:
        kind = shares.get(name, positive if isinstance(default, int) else above_zero)
        parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text}; default: {default}")
    parser.add_argument("--nodes", type=positive, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    options = parser.parse_args()
    print_heading()
    cluster = Cluster(**{name: getattr(options, name) for name in Cluster._fields})
    sizes = {ORIGINAL: options.original_mb, PACKED: options.packed_mb, SMALL: options.small_mb}
    print(", ".join(f"{name} {getattr(options, name.replace('-', '_'))}" for name, _, _ in numbers))
    networks = networks_of(options)
    print_needs(networks, sizes, cluster)
    print_scaling(networks, options.videos, options.nodes, sizes, cluster)


if __name__ == "__main__":
    main()
