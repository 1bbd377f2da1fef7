"""What do page faults cost a training step? With the C library's own ways, and with `raise_malloc_trim_threshold`.

Each measurement is a process of its own, the two sides taking turns: steps of a C3D on made clips, in the main thread
or, as under Ray, in another. Processor time is compared, so that other work on the machine matters little.

    python -m benchmarks.networks.freed_memory --rounds 5
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import threading
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # where this is run as a file
from benchmarks.conditions import positive, print_heading
from benchmarks.turns import spread


def steps(width: int, number: int, keep: bool, in_thread: bool) -> None:
    """Trains, and prints user seconds, system seconds and page faults a step."""
    import torch
    from torch.nn.functional import cross_entropy

    from datamodules.loading.malloc_tuning import raise_malloc_trim_threshold
    from lightning_modules import C3D

    if keep and not raise_malloc_trim_threshold():
        raise SystemExit("this C library cannot be told to keep freed memory")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = C3D(num_classes=8, width=width, num_frames=16, crop_size=56, batch_norm=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    clips, labels = torch.randn(4, 3, 16, 56, 56), torch.arange(4)

    def train(times: int) -> resource.struct_rusage:
        for _ in range(times):
            optimizer.zero_grad()
            cross_entropy(model.clip_logits(clips), labels).backward()
            optimizer.step()
        return resource.getrusage(resource.RUSAGE_SELF)

    def measure() -> None:
        before, after = train(6), train(number)
        spent = [getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime", "ru_minflt")]
        print(json.dumps([each / number for each in spent]))

    if in_thread:
        thread = threading.Thread(target=measure)
        thread.start()
        thread.join()
    else:
        measure()


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=5)
    parser.add_argument("--steps", type=positive, default=20)
    parser.add_argument("--width", type=positive, default=12, help="channels of C3D's first layer")
    parser.add_argument("--one", choices=["default", "keep"], help=argparse.SUPPRESS)
    parser.add_argument("--thread", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        steps(options.width, options.steps, options.one == "keep", options.thread)
        return
    print_heading("torch")
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-m", "benchmarks.networks.freed_memory", "--steps", str(options.steps)]
    for where in ([], ["--thread"]):
        measured: dict[str, list[list[float]]] = {"default": [], "keep": []}
        for _ in range(options.rounds):
            for one, seen in measured.items():
                words = [*command, "--width", str(options.width), "--one", one, *where]
                seen.append(json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, env=plain).stdout))
        for one, seen in measured.items():
            user, system, faults = (statistics.median(column) for column in zip(*seen, strict=True))
            thread = "another" if where else "main"
            print(f"{thread} thread, {one}: {user:.4f} + {system:.4f} s, {faults:.0f} faults a step")
        ratios = [sum(keep[:2]) / sum(default[:2]) for default, keep in zip(*measured.values(), strict=True)]
        print(f"  processor time, keep / default: {spread(ratios, 3)}")


if __name__ == "__main__":
    main()
