"""Clips of the size that an encoder was made for, unless the user gives one."""

import pytest
import yaml

from pipeline.training.lightning_cli import build


@pytest.mark.parametrize(
    ("encoder", "given", "expected"),
    [
        ("mobilenet_v2", {}, (224, (224, 224))),
        ("mobilenet_v2", {"crop_size": 64}, (64, None)),
        ("mobilenet_v2", {"resize": 256}, (224, 256)),
        ("mobilenet_v2", {"crop_size": 112}, (112, None)),  # the data module's own default, but the user's word
        ("small", {}, (112, None)),
    ],
)
def test_sizes_are_the_encoder_s_unless_they_are_given(motion_dataset, tmp_path, caplog, encoder, given, expected):
    model = {"class_path": "CNNLSTM", "init_args": {"encoder": encoder, "channels": [4]}}
    data = {"class_path": "ShardedVideoDataModule", "init_args": {"root": str(motion_dataset)} | given}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"model": model, "data": data}))
    with caplog.at_level("INFO", logger="pytorch_lightning"):  # which `evaluate` quietens in this process
        options = build(["--config", str(tmp_path / "run.yaml")]).datamodule.options
    resize = tuple(options.resize) if isinstance(options.resize, list) else options.resize
    assert (options.crop_size, resize) == expected
    told = [
        line
        for line in caplog.messages
        if "the network was made for crop_size" in line or "was made for resize" in line
    ]
    assert bool(told) == bool(given)
