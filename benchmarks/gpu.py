"""What one GPU does with this project, beside the goals: one table of speeds and waits, in at most 8 minutes.

    python benchmarks/gpu.py --out gpu-results
    python benchmarks/gpu.py --sections conditions rates datasets fit_i3d
    OMP_NUM_THREADS=1 python benchmarks/gpu.py --device cpu --tiny     # does the script itself work?

Sections run in a child process, each with a time limit; one that crashes or hangs is named in the table and costs
nothing else. Rows are written to OUT/rows.jsonl as they are measured, what the sections print to OUT/log.txt, and the
table to OUT/table.md. Shares are of the rate of a product of 8192 x 8192 matrices in bf16 that is measured in the same
run; `fit` is compared with steps of the same network without loader and Lightning, taken before and after it. In the
order of importance; what the time does not suffice for is named. The exit status is 1 where a section failed or was not
begun, whatever the goals.
"""

import argparse
import functools
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where this is run as a file

from benchmarks.conditions import above_zero, lacks_gpu, print_heading
from benchmarks.gpu_checks.results import Settings, table
from benchmarks.gpu_checks.sections import Section, run_sections

_CHECKS = "benchmarks.gpu_checks"
SECTIONS = {
    "conditions": Section(f"{_CHECKS}.machine:conditions", 60),
    "rates": Section(f"{_CHECKS}.machine:rates", 40),
    "datasets": Section(f"{_CHECKS}.video_datasets:datasets", 90),
    "c3d": Section(f"{_CHECKS}.training_steps:bare_steps", 60, ("C3D",)),
    "i3d": Section(f"{_CHECKS}.training_steps:bare_steps", 90, ("I3D",)),
    "cnn_lstm": Section(f"{_CHECKS}.training_steps:bare_steps", 60, ("CNN+LSTM",)),
    "fit_c3d": Section(f"{_CHECKS}.real_fit:fit", 120, ("C3D",)),
    "fit_i3d": Section(f"{_CHECKS}.real_fit:fit", 120, ("I3D",)),
    "pixels": Section(f"{_CHECKS}.clip_operations:pixels", 30),
    "poolings": Section(f"{_CHECKS}.clip_operations:poolings", 45),
    "compile_i3d": Section(f"{_CHECKS}.training_steps:compiled_steps", 180, ("I3D",)),
    "compile_c3d": Section(f"{_CHECKS}.training_steps:compiled_steps", 60, ("C3D",)),
    "inference_c3d": Section(f"{_CHECKS}.inference:verbs", 90, ("C3D",)),
    "fit_compiled_i3d": Section(f"{_CHECKS}.real_fit:compiled_fit", 120, ("I3D",)),
    "fit_compiled_c3d": Section(f"{_CHECKS}.real_fit:compiled_fit", 60, ("C3D",)),
    "inference_i3d": Section(f"{_CHECKS}.inference:verbs", 90, ("I3D",)),
    "compile_cnn_lstm": Section(f"{_CHECKS}.training_steps:compiled_steps", 120, ("CNN+LSTM",)),
}


def main() -> None:
    """Runs the sections and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of rows, log and table; default: gpu-results-TIME")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="all as small as can be, no goal judged: tries the script")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--budget-s", type=above_zero, default=470.0, help="seconds for all sections; default: 470")
    options = parser.parse_args()
    print_heading("torch", "pytorch-lightning", "av")
    if lacks_gpu(options.device):
        sys.exit(1)
    out = (options.out or Path(f"gpu-results-{time.strftime('%Y%m%d-%H%M%S')}")).resolve()
    out.mkdir(parents=True, exist_ok=True)
    for earlier in ("rows.jsonl", "log.txt", "table.md"):
        (out / earlier).unlink(missing_ok=True)
    work = Path(tempfile.mkdtemp(prefix="gpu-benchmark-"))
    try:
        settings = Settings(options.device, options.tiny, out, work)
        show = functools.partial(print, flush=True)
        rows = run_sections({name: SECTIONS[name] for name in options.sections}, settings, options.budget_s, show)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    (out / "table.md").write_text(f"{table(rows)}\n", encoding="utf-8")
    print(f"\n{table(rows)}")
    failed = [row.section for row in rows if row.failed]
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}; see {out / 'log.txt'}")


if __name__ == "__main__":
    main()
