"""Check of the optical flow in a shard: its bytes, and that it has the frames that the video's need."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datamodules.dataset.quarantine import one_line
from datamodules.optical_flow.flow_video import num_flow_frames
from pipeline.dataset_tools.checked_range import CheckedVideo, UndecodableError, decode_range
from pipeline.dataset_tools.verify_checks import COPY_FIX, DatasetDefect, reindex_fix
from pipeline.processes.killable_pool import KillablePool


def check_flow(root: Path, shard: str, rows: Sequence[dict[str, Any]], pool: KillablePool) -> list[DatasetDefect]:
    """Hashes and decodes the flow of the videos of a shard.

    Args:
        root: folder of the dataset.
        shard: name of the tar, which is there.
        rows: rows of the index; those without flow are passed over.
        pool: the processes that decode.
    """
    with_flow = [row for row in rows if row.get("flow_size")]
    path = str((root / shard).absolute())
    jobs = [(path, row["flow_offset"], row["flow_size"]) for row in with_flow]
    defects = []
    for row, checked in zip(with_flow, pool.map(decode_range, jobs, lambda: None), strict=True):
        problem, fix = _find_defect(row, checked, root)
        if problem:
            defects.append(DatasetDefect(f"{shard}, {row['key']}", problem, fix))
    return defects


def _find_defect(row: dict[str, Any], checked: CheckedVideo | Exception, root: Path) -> tuple[str, str]:
    """The problem of a video's flow and its fix; two empty strings where there is no problem."""
    if isinstance(checked, UndecodableError):
        return f"its optical flow is damaged: {one_line(checked.detail)}", COPY_FIX
    if isinstance(checked, Exception):
        return f"its optical flow cannot be decoded: {one_line(str(checked))}", COPY_FIX
    if checked.content_sha256 != row["flow_sha256"]:
        return "the bytes of its optical flow are not those of its flow_sha256", COPY_FIX
    info = checked.info
    assert info is not None, "decoded"
    expected = (num_flow_frames(row["num_frames"]), row["width"], 2 * row["height"])
    found = (info.num_frames, info.width, info.height)
    if found != expected:
        described = [f"{frames} frames of {width}x{height}" for frames, width, height in (found, expected)]
        return f"its optical flow has {described[0]}, its video needs {described[1]}", reindex_fix(root)
    return "", ""
