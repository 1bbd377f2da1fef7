"""Memory that is freed and taken again costs no faults."""

import os
import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import resource, threading
import torch
from datamodules.loading.malloc_tuning import raise_malloc_trim_threshold
assert not KEEP or raise_malloc_trim_threshold()
def step():
    blocks = [torch.ones(size) for size in (2_000_000, 10_000_000)]
    del blocks
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def count():
    spent = []
    for _ in range(12):
        before = faults()
        step()
        spent.append(faults() - before)
    print(min(spent))  # the heap grows in the first ones
thread = threading.Thread(target=count)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no mallopt")
def test_blocks_taken_again_cost_no_faults() -> None:
    def faults(keep: bool) -> int:
        program = _PROGRAM.replace("KEEP", str(keep))
        plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, env=plain)
        return int(done.stdout)

    assert faults(True) < 100 < 9000 < faults(False)  # 48 MB are 11,700 pages
