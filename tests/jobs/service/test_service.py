"""A service on a local cluster, by the commands of docs/serve.md: load, a kill, and another network."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests
import torch

from jobs.client import local_cluster, local_state
from pipeline.__main__ import main
from tests.conftest import REPOSITORY
from tests.jobs.conftest import Run, environment_in
from tests.jobs.service.local_service import MIB, huge_frames, video_bytes

NUM_UPLOADS, NUM_CLIENTS, NUM_VIDEOS = 1000, 12, 8
REPLICA = "ray::ServeReplica:classify:ClassifierReplica"
FORM = {"content-type": "multipart/form-data; boundary=x"}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def page_command(start: str, **replaced: str) -> list[str]:
    """A command of docs/serve.md after `python -m jobs`, with words replaced."""
    [line] = re.findall(rf"^python -m jobs ({start}.*?)  # not run", (REPOSITORY / "docs/serve.md").read_text(), re.M)
    return [replaced.get(word, word) for word in shlex.split(line)]


@pytest.fixture(scope="module")
def other_checkpoint(checkpoint: Path, folder: Path) -> Path:
    """The same network with its last layer reversed."""
    state = torch.load(checkpoint, weights_only=True)
    for name in list(state["state_dict"])[-2:]:
        state["state_dict"][name] = state["state_dict"][name].flip(0)
    torch.save(state, folder / "better.ckpt")
    return folder / "better.ckpt"


@pytest.fixture(scope="module")
def videos(motion_dataset: Path) -> list[bytes]:
    return [video_bytes(motion_dataset, number) for number in range(NUM_VIDEOS)]


@pytest.fixture(scope="module")
def service(folder: Path, checkpoint: Path, run_jobs: Run) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process of the first command of the page, and the URL that it prints; `run_jobs` ends what is left."""
    words = page_command("serve --checkpoint", **{"tour/runs/tour/last.ckpt": str(checkpoint), "8000": "0"})
    words += ["--max-queue", "16", "--decoders", "1", "--decode-timeout-s", "8", "--max-upload-mb", "16"]
    command = [sys.executable, "-m", "jobs", *words]
    process = subprocess.Popen(
        command, cwd=folder, env=environment_in(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if found := re.search(r"answers at (http://127\.0\.0\.1:\d+);", line):
            break
    else:
        raise AssertionError(f"it did not start: {''.join(lines)}")
    threading.Thread(target=process.stdout.read, daemon=True).start()
    yield process, found[1]
    if process.poll() is None:
        process.kill()


def expected_classes(
    videos: list[bytes], checkpoint: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """The best class of each video, as `classify` says."""
    folder.mkdir()
    paths = [folder / f"{number}.mp4" for number in range(len(videos))]
    for path, data in zip(paths, videos, strict=True):
        path.write_bytes(data)
    assert main(["classify", *map(str, paths), "--checkpoint", str(checkpoint), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    return [line["top"][0]["class"] for line in lines]


def hostile_uploads(video: bytes) -> list[tuple[bytes, dict[str, str], int, str]]:
    """Bodies and headers of requests that must fail, with status and a word of the answer."""
    return [
        (b"this is not a video\n" * 50, {}, 422, "unreadable"),
        (os.urandom(5000), {}, 422, "reason"),
        (video[: len(video) // 3], {}, 422, "reason"),
        (video[:32] + bytes(len(video) - 32), {}, 422, "reason"),
        (b"", {}, 400, "empty"),
        (video, FORM, 400, "form"),
        (bytes(17 * MIB), {}, 413, "larger"),
        (huge_frames(9000, 2), {}, 422, "reason"),
    ]


def kill_a_busy_replica(state: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBS_STATE_DIR", str(state))
        cluster = local_state.read_cluster()
        assert cluster is not None
        replicas = [each for each in local_cluster.cluster_processes(cluster) if REPLICA in " ".join(each.cmdline())]
    assert len(replicas) == 2
    busiest = max(replicas, key=processor_seconds)  # by a video that does not end, so it has a request for certain
    os.kill(busiest.pid, signal.SIGKILL)
    return int(busiest.pid)


def processor_seconds(process: psutil.Process) -> float:
    """What the children of a process, which decode, used of a processor within a second."""

    def used() -> float:
        return sum(sum(child.cpu_times()[:2]) for child in process.children(recursive=True))

    before = used()
    time.sleep(1)
    return used() - before


def test_of_a_thousand_uploads_none_is_lost_while_a_replica_is_killed(
    service: tuple[subprocess.Popen[str], str], folder: Path, videos: list[bytes]
) -> None:
    url = service[1] + "/v1/classify"
    hostile = hostile_uploads(videos[0])
    hang = huge_frames(1500, 2000)
    done = Counter[str]()
    wrong: list[str] = []

    def upload(number: int) -> None:
        if number in (100, 500):
            check(number, requests.post(url, data=hang, params={"timeline": "1"}, timeout=300), 422, "hang")
        elif number % 5 == 0:
            body, headers, status, word = hostile[number // 5 % len(hostile)]
            check(number, requests.post(url, data=body, headers=headers, timeout=300), status, word)
        else:
            files = {"video": videos[number % NUM_VIDEOS]}
            check(number, requests.post(url, files=files, timeout=300), 200, '"top"')
        done["all"] += 1

    def check(number: int, answer: requests.Response, status: int, word: str) -> None:
        done[str(answer.status_code)] += 1
        if answer.status_code != status or word not in answer.text:
            wrong.append(f"{number}: {answer.status_code} {answer.text[:300]}")

    with ThreadPoolExecutor(NUM_CLIENTS) as clients:
        uploads = [clients.submit(upload, number) for number in range(NUM_UPLOADS)]
        wait_until(lambda: done["all"] > NUM_UPLOADS // 10)
        kill_a_busy_replica(folder / "state")
        for each in uploads:
            each.result()
    assert wrong == []
    assert sum(count for status, count in done.items() if status != "all") == NUM_UPLOADS
    assert done["200"] == NUM_UPLOADS * 4 // 5
    figures = requests.get(f"{service[1]}/metrics", timeout=60).text
    assert re.search(r"^classify_retries_total [1-9]", figures, re.MULTILINE), "the killed replica had requests"
    assert 'classify_refused_videos_total{reason="hang"} 2.0' in figures


def test_the_network_changes_while_requests_come_and_all_of_them_are_answered(
    service: tuple[subprocess.Popen[str], str],
    run_jobs: Run,
    folder: Path,
    checkpoint: Path,
    other_checkpoint: Path,
    videos: list[bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = service[1] + "/v1/classify"
    before = expected_classes(videos, checkpoint, folder / "before", capsys)
    after = expected_classes(videos, other_checkpoint, folder / "after", capsys)
    changing = [number for number in range(NUM_VIDEOS) if before[number] != after[number]]
    assert changing, "the test can tell the networks apart"
    is_changed = threading.Event()
    answered = Counter[str]()

    def keep_asking(client: int) -> None:
        number = client
        while not is_changed.is_set():
            number = (number + 1) % NUM_VIDEOS
            answer = requests.post(url, data=videos[number], timeout=300)
            assert answer.status_code == 200, answer.text
            best = answer.json()["top"][0]["class"]
            assert best in (before[number], after[number])
            answered["before" if best == before[number] else "after"] += number in changing

    with ThreadPoolExecutor(4) as clients:
        asking = [clients.submit(keep_asking, client) for client in range(4)]
        try:
            changed = run_jobs(
                *page_command("serve --replace", **{"better.ckpt": str(other_checkpoint)}), timeout_s=300
            )
        finally:
            is_changed.set()
        for each in asking:
            each.result()
    assert changed.returncode == 0, changed.stderr
    assert changed.stdout.startswith("better.ckpt, of 8 classes, answers at"), changed.stdout
    assert answered["before"] > 0
    for _ in range(4):  # by whichever replica
        for number, video in enumerate(videos):
            assert requests.post(url, data=video, timeout=300).json()["top"][0]["class"] == after[number]
    status = run_jobs(*page_command("serve --status"))
    assert status.returncode == 0, status.stderr
    assert re.search(r"^network: +better\.ckpt, 8 classes$", status.stdout, re.MULTILINE)
    assert re.search(r"^answered: +\d{3,} with 200", status.stdout, re.MULTILINE), status.stdout
    refused = run_jobs("serve", "--replace", "--checkpoint", str(folder / "nothing.ckpt"))
    assert (refused.returncode, "nothing.ckpt" in refused.stderr) == (2, True)
    assert requests.post(url, data=videos[0], timeout=300).json()["top"][0]["class"] == after[0]


def wait_until(condition: Callable[[], bool], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_beyond_the_queue_gets_429_and_what_is_accepted_is_answered_before_the_end(
    service: tuple[subprocess.Popen[str], str], run_jobs: Run, videos: list[bytes]
) -> None:
    process, url = service
    children = psutil.Process(process.pid).children(recursive=True)

    def upload(number: int) -> requests.Response:
        return requests.post(f"{url}/v1/classify", data=videos[number % NUM_VIDEOS], timeout=300)

    with ThreadPoolExecutor(100) as clients:
        answers = list(clients.map(upload, range(200)))
    statuses = Counter(each.status_code for each in answers)
    assert statuses.keys() == {200, 429}
    assert all(int(each.headers["retry-after"]) >= 1 for each in answers if each.status_code == 429)
    with ThreadPoolExecutor(16) as clients:
        last = [clients.submit(upload, number) for number in range(16)]
        wait_until(lambda: "accepted_requests 0.0" not in requests.get(f"{url}/metrics", timeout=60).text)
        ended = run_jobs(*page_command("serve --stop"))
        assert (ended.returncode, ended.stdout) == (0, f"ended the service at {url}\n"), ended.stderr
        outcomes = Counter(each.result().status_code if each.exception() is None else "refused" for each in last)
    assert outcomes.keys() <= {200, "refused"}
    assert outcomes[200] >= 1
    assert process.wait(timeout=60) == 0
    assert psutil.wait_procs(children, timeout=60)[1] == [], "no process is left"
    assert run_jobs("serve", "--status").stdout == "no service runs here\n"
