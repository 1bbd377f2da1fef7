"""The videos that `benchmarks/loading/loader.py` loads: packed at two sizes and as they are, and copies of them."""

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.conditions import is_packed, sample_folder
from datamodules.encoding.synthetic_dataset import SyntheticDatasetOptions, make_synthetic_dataset


def datasets(names: list[str], folder: Path, copies: int) -> Iterator[tuple[str, list[str]]]:
    """Packs what there is to read, once; yields the name and the original files of each dataset."""
    sample = sample_folder()
    if "kinetics" in names and not sample.is_dir():
        print(f"kinetics: not measured: {sample} is not there")
    elif "kinetics" in names:
        pack(folder, "kinetics", sample / "annotations.csv", sample / "videos")
        repeat(folder, "kinetics", copies)
        yield "kinetics", sorted(map(str, (sample / "videos").glob("*/*.mp4")))
    if "synthetic" in names:
        made = folder / "made"
        if not made.exists():
            synthetic = SyntheticDatasetOptions(train=1, val=0, test=0, num_frames=150, width=456, height=256)
            make_synthetic_dataset(made, synthetic)
        pack(folder, "synthetic", made / "train.csv", made / "videos")
        repeat(folder, "synthetic", copies)
        yield "synthetic", sorted(map(str, (made / "videos").glob("*/*.mp4")))


def pack(folder: Path, name: str, annotations: Path, videos: Path) -> None:
    """Packs videos at both sizes and as they are, once; and puts the members of the tars beside them as files."""
    packed = folder / name
    if not is_packed(packed, 256, 128):
        for earlier in (*folder.glob(f"{name}-files-*"), *folder.glob(f"{name}-x*")):
            shutil.rmtree(earlier)  # of a pack that was removed
        _run_pack(annotations, videos, packed, "--short-side", "256", "128")
    copied = folder / f"{name}-copied"
    if not (copied / "dataset.json").exists():
        _run_pack(annotations, videos, copied, "--copy", "true")
    for short_side, root in ((256, packed), (128, packed / "short128")):
        files = folder / f"{name}-files-{short_side}"
        if not files.exists():
            for tar in sorted(root.glob("*.tar")):
                with tarfile.open(tar) as members:
                    members.extractall(files, filter="data")


def repeat(folder: Path, name: str, copies: int) -> None:
    """Packs copies of the packed videos under names of their own, once, each size in a folder (`repeated`)."""
    for short_side in (256, 128):
        packed = repeated(folder, name, copies, short_side)
        if (packed / "dataset.json").exists():
            continue
        videos = packed / "videos"
        shutil.rmtree(packed, ignore_errors=True)  # of a run that was stopped
        videos.mkdir(parents=True)
        lines = ["path,label,split"]
        for file in sorted((folder / f"{name}-files-{short_side}").glob("*.mp4")):
            video = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
            for number in range(copies):
                (videos / f"{file.stem}-{number}.mp4").symlink_to(file)
                lines.append(f"{file.stem}-{number}.mp4,{video['label']},{video['split']}")
        annotations = packed / "list.csv"
        annotations.write_text("\n".join([*lines, ""]), encoding="utf-8")
        _run_pack(annotations, videos, packed, "--copy", "true")


def repeated(folder: Path, name: str, copies: int, short_side: int) -> Path:
    """The folder of a dataset of copies."""
    return folder / f"{name}-x{copies}-{short_side}"


def _run_pack(annotations: Path, videos: Path, out: Path, *options: str) -> None:
    arguments = ["--annotations", str(annotations), "--videos", str(videos), "--out", str(out), *options]
    subprocess.run([sys.executable, "-m", "pipeline", "pack", *arguments], check=True)
