"""What a precision computes in, which processors have bf16 units, and what is said of those that have none."""

import pytest
import torch
import yaml

from pipeline.__main__ import main
from pipeline.processes import precision
from pipeline.processes.precision import half_type, has_bf16_units, slow_half

# The lines of Linux that matter, shortened: AVX2 alone; AVX-512 without bf16; with it; with AMX; ARM without and with.
CPUINFO = {
    "Zen 2": ("flags\t\t: fpu vme sse4_2 f16c avx avx2 sha_ni", False),
    "Skylake": ("flags\t\t: fpu avx2 avx512f avx512dq avx512bw avx512vl avx512_vnni", False),
    "Zen 4": ("flags\t\t: fpu avx2 avx512f avx512_bf16 avx512_vnni", True),
    "Sapphire Rapids": ("flags\t\t: fpu avx2 avx512f amx_bf16 amx_tile amx_int8", True),
    "Graviton 2": ("Features\t: fp asimd evtstrm aes fphp asimdhp asimddp", False),
    "Graviton 3": ("Features\t: fp asimd sve i8mm svebf16 bf16", True),
    "none told": ("processor\t: 0", None),
}


@pytest.mark.parametrize("name", CPUINFO)
def test_bf16_units_are_read_from_what_linux_says(tmp_path, name):
    line, expected = CPUINFO[name]
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nmodel name\t: bf16\n{line}\n\nprocessor\t: 1\n{line}\n")
    assert has_bf16_units(path) is expected


def test_elsewhere_torch_is_asked_and_says_the_same(tmp_path):
    expected = has_bf16_units() if hasattr(torch.cpu, "get_capabilities") else None
    assert has_bf16_units(tmp_path / "none") is expected


@pytest.mark.parametrize(
    ("words", "on_cpu", "on_gpu"),
    [
        ("bf16-mixed", torch.bfloat16, torch.bfloat16),
        ("bf16-true", torch.bfloat16, torch.bfloat16),
        ("bf16", torch.bfloat16, torch.bfloat16),
        ("16-mixed", torch.bfloat16, torch.float16),
        (16, torch.bfloat16, torch.float16),
        ("16-true", torch.float16, torch.float16),
        ("32-true", None, None),
        (32, None, None),
        ("64-true", None, None),
        (None, None, None),
    ],
)
def test_the_type_of_a_precision(words, on_cpu, on_gpu):
    assert (half_type(words, "cpu"), half_type(words, "cuda")) == (on_cpu, on_gpu)


def test_only_16_bits_on_a_processor_are_spoken_of():
    assert slow_half("32-true", "cpu") is None
    assert slow_half(None, "cpu") is None
    assert slow_half("bf16-mixed", "cuda") is None
    told = slow_half("16-mixed", "cpu")
    assert (told is not None) == (has_bf16_units() is False)


@pytest.mark.parametrize("verb", ["fit", "evaluate", "features"])
def test_each_verb_says_it_in_one_line(verb, motion_dataset, motion_checkpoint, tmp_path, capfd):
    precision._print_once.cache_clear()
    if verb == "fit":
        config = tmp_path / "c.yaml"
        model = {"width": 1, "crop_size": 32}
        data = {"root": str(motion_dataset), "batch_size": 4, "crop_size": 32, "num_workers": 0, "flip_probability": 0}
        config.write_text(
            yaml.safe_dump(
                {
                    "model": {"class_path": "C3D", "init_args": model},
                    "data": {"class_path": "ShardedVideoDataModule", "init_args": data},
                }
            )
        )
        words = ["--config", str(config), "--trainer.accelerator=cpu", "--trainer.fast_dev_run=1"]
        words += ["--trainer.precision=bf16-mixed", f"--trainer.default_root_dir={tmp_path}"]
    else:
        out = tmp_path / ("out" if verb == "evaluate" else "out.parquet")
        words = ["--checkpoint", str(motion_checkpoint), "--data", str(motion_dataset), "--out", str(out)]
        words += ["--num-clips=1", "--num-workers=0", "--accelerator=cpu", "--precision=bf16-mixed"]
    assert main([verb, *words]) == 0
    told = slow_half("bf16-mixed", "cpu")
    said = [line for line in capfd.readouterr().err.splitlines() if "bf16 units" in line]
    assert said == ([] if told is None else [told])
