"""Two nodes: `doctor` over both, what one alone sees, an interface that is not there; evaluation over both."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.metrics.predictions import read_predictions
from tests.jobs.two_nodes import Nodes
from tests.pipeline.doctor.test_doctor import write_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def nodes(folder: Path) -> Iterator[Nodes]:
    """Two nodes, the second of which sees an empty folder in place of `hidden`."""
    (folder / "hidden").mkdir()
    started = Nodes(folder)
    try:
        started.add(hidden=folder / "hidden")
    except RuntimeError as error:
        started.kill(0)
        pytest.skip(f"mounts of one node alone are not permitted here: {error}")
    yield started
    for number in reversed(range(len(started.nodes))):
        started.kill(number)


def rows(printed: str) -> dict[str, tuple[str, str]]:
    """The table: result and text by check."""
    found: dict[str, tuple[str, str]] = {}
    check = ""
    for line in printed.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("│").split("│")]
        if line.startswith("│") and len(cells) == 3:
            check = cells[0] or check
            result, text = found.get(check, (cells[1], ""))
            found[check] = (result, f"{text} {cells[2]}".strip())
    return found


def test_all_is_well(nodes: Nodes, folder: Path, motion_dataset: Path) -> None:
    write_config(folder / "c.yaml", motion_dataset)
    job = nodes.drive(folder, ["doctor", "--config", "c.yaml"], num_workers=2)
    printed, _ = job.communicate(timeout=300)
    assert job.returncode == 0, printed
    table = rows(printed)
    assert "doctor on 2 nodes" in printed
    assert {check for check, (result, _) in table.items() if result == "skipped"} == {"GPU", "wandb"}
    assert table["versions"][1].startswith("on all 2 nodes: Python 3")
    assert table["data"][1].startswith("on 2 of 2 nodes: ")
    assert table["storage"][1].endswith("what each node wrote, every node reads")
    assert re.match(r"2 ranks over gloo in .* an all-reduce of 16 MiB takes", table["collective"][1])
    assert table["one real step"][1].startswith("clips (4, 16, 32, 32, 3) uint8; a step takes ")
    assert not list(folder.glob(".doctor-*"))


def test_what_only_one_node_sees_and_a_wrong_interface(nodes: Nodes, folder: Path) -> None:
    spec = {"storage_path": str(folder / "hidden"), "env": {"GLOO_SOCKET_IFNAME": "nosuch0"}}
    job = nodes.drive(folder, ["doctor"], num_workers=2, **spec)
    printed, _ = job.communicate(timeout=300)
    assert job.returncode == 1
    assert "Traceback" not in printed
    assert printed.strip().splitlines()[-1] == "error: storage, collective: see the table above; nothing was started"
    table = rows(printed)
    assert re.search(r"storage_path=.*/hidden does not show what \S+ \([\d.]+, \w+\) wrote", table["storage"][1])
    assert "nosuch0; set GLOO_SOCKET_IFNAME (now 'nosuch0') on the nodes" in table["collective"][1]
    assert "lo (127.0.0.1)" in table["collective"][1]


def test_evaluate_over_two_nodes_is_as_in_one_process(
    nodes: Nodes, folder: Path, motion_dataset: Path, checkpoint: Path
) -> None:
    evaluate(
        EvaluateOptions(checkpoint, motion_dataset, out=folder / "alone", accelerator="cpu", num_clips=1, num_workers=0)
    )
    arguments = [
        "--checkpoint",
        str(checkpoint),
        "--data",
        str(motion_dataset),
        "--num-clips",
        "1",
        "--num-workers",
        "0",
    ]
    job = nodes.drive(folder, ["evaluate", *arguments, "--out", "together"], name="over", num_workers=2, max_failures=0)
    printed, _ = job.communicate(timeout=200)
    assert job.returncode == 0, printed
    alone, one = read_predictions(folder / "alone" / "predictions.parquet")
    together, two = read_predictions(folder / "together" / "predictions.parquet")
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert two.drop_columns("scores").equals(one.drop_columns("scores"))
