"""The service without a cluster: real requests on loopback, damaged and hostile ones among them."""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest
import requests

import jobs.service.http_server
from jobs.service.openapi import RESULT
from jobs.service.uploads import UploadLimits
from pipeline.__main__ import main
from tests.jobs.service.local_service import MIB, InProcess, huge_frames, open_replica, open_service, video_bytes


@pytest.fixture(scope="module")
def classifier(checkpoint: Path) -> Iterator[InProcess]:
    with open_replica(checkpoint) as replica:
        yield InProcess(replica)


@pytest.fixture(scope="module")
def url(classifier: InProcess) -> Iterator[str]:
    with open_service(classifier) as address:
        yield address


@pytest.fixture(scope="module")
def video(motion_dataset: Path) -> bytes:
    return video_bytes(motion_dataset)


def post(url: str, data: bytes = b"", **options: str) -> requests.Response:
    return requests.post(f"{url}/v1/classify", data=data, params=options, timeout=120)


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=60)


def read_to_end(connection: socket.socket) -> str:
    """What the server sends until it closes the connection."""
    received = b""
    while data := connection.recv(2**16):
        received += data
    return received.decode()


@pytest.mark.parametrize("options", [{}, {"top": "2", "timeline": "true"}])
def test_the_answer_is_the_line_of_classify(
    url: str,
    video: bytes,
    checkpoint: Path,
    tmp_path: Path,
    options: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "walk.mp4"
    path.write_bytes(video)
    words = ["--timeline"] if "timeline" in options else []
    command = ["classify", str(path), "--checkpoint", str(checkpoint), "--json", "--top", options.get("top", "5")]
    assert main([*command, *words]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    body = post(url, video, name=str(path), **options)
    with path.open("rb") as file:
        form = requests.post(f"{url}/v1/classify", files={"video": file}, data=options, timeout=120)
    assert (body.status_code, form.status_code) == (200, 200)
    assert body.text == line
    assert form.json() == json.loads(line) | {"video": "walk.mp4"}
    jsonschema.validate(body.json(), RESULT)


def test_the_labels_health_figures_and_documentation(
    url: str, video: bytes, classifier: InProcess, checkpoint: Path
) -> None:
    assert post(url, video).status_code == 200
    labels = requests.get(f"{url}/v1/labels", timeout=60).json()
    assert len(labels["labels"]) == 8
    assert (labels["task"], labels["network"]["name"]) == ("single_label", checkpoint.name)
    assert requests.get(f"{url}/healthz", timeout=60).json() == {"status": "ok"}
    figures = requests.get(f"{url}/metrics", timeout=60).text
    assert re.search(r'^classify_requests_total\{status="200"\} [1-9]', figures, re.MULTILINE)
    paths = requests.get(f"{url}/openapi.json", timeout=60).json()["paths"]
    assert {"/v1/classify", "/v1/labels", "/healthz", "/metrics"} == paths.keys()
    assert {"200", "400", "401", "408", "413", "422", "429", "503", "504"} <= paths["/v1/classify"]["post"][
        "responses"
    ].keys()
    assert requests.get(f"{url}/docs", timeout=60).status_code == 200
    unknown = requests.get(f"{url}/v1/nothing", timeout=60)
    assert (unknown.status_code, unknown.json()) == (404, {"error": "there is no GET /v1/nothing here; see /docs"})
    assert requests.get(f"{url}/v1/classify", timeout=60).status_code == 405
    classifier.reason = "no replica is running"
    try:
        answer = requests.get(f"{url}/healthz", timeout=60)
    finally:
        classifier.reason = ""
    assert (answer.status_code, answer.json()["error"]) == (503, "no replica is running")


HOSTILE = {
    "a text": (b"not a video\n" * 100, 422, "unreadable"),
    "random bytes": (bytes(range(256)) * 400, 422, "unreadable"),
    "nothing": (b"", 400, "empty"),
    "a playlist": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", 422, "unreadable"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_video_is_refused_with_a_reason(url: str, kind: str) -> None:
    data, status, word = HOSTILE[kind]
    answer = post(url, data)
    assert answer.status_code == status, answer.text
    assert word in answer.text


def test_damaged_videos_are_refused_or_classified_and_end_nothing(url: str, video: bytes) -> None:
    statuses = [post(url, video[: len(video) * part // 10]).status_code for part in range(1, 10)]
    changed = [video[:place] + bytes(64) + video[place + 64 :] for place in range(0, len(video) - 64, len(video) // 8)]
    statuses += [post(url, data).status_code for data in changed]
    assert set(statuses) <= {200, 422}
    assert statuses.count(422) >= 5
    assert post(url, video).status_code == 200


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"top": "0"}, "top=0: must be a whole number from 1 to"),
        ({"top": "many"}, "top=many: must be a number"),
        ({"timeline": "perhaps"}, "timeline=perhaps: must be true or false"),
        ({"threshold": "2"}, "threshold=2: must be from 0 to 1"),
        ({"threshold": "nan"}, "threshold=nan: must be from 0 to 1"),
        ({"threshold": "0.5"}, "threshold=0.5: the network gives each video one class"),
        ({"colour": "red"}, "colour: there is no such option"),
    ],
)
def test_a_wrong_option_is_one_sentence(url: str, video: bytes, options: dict[str, str], sentence: str) -> None:
    answer = post(url, video, **options)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(sentence)


FILE_PART = b'--x\r\nContent-Disposition: form-data; name="v"; filename="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"no boundary"),
        ("multipart/form-data; boundary=x", b"no parts"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="top"\r\n\r\n3\r\n--x--\r\n'),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="v"; filename="a"\r\n\r\nhalf',
        ),
    ],
)
def test_a_malformed_form_is_one_sentence(url: str, kind: str, body: bytes) -> None:
    answer = requests.post(f"{url}/v1/classify", data=body, headers={"content-type": kind}, timeout=60)
    assert answer.status_code == 400
    assert "the form" in answer.json()["error"]


def test_an_endless_upload_is_ended_and_a_large_one_is_not_read(url: str) -> None:
    with connect(url) as connection:
        connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 4000 * MIB:
                connection.sendall(b"10000\r\n" + bytes(2**16) + b"\r\n")
                sent += 2**16
        except OSError:
            pass
        assert sent < 4000 * MIB, "the connection was closed"
    with connect(url) as connection:
        head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: {5 * MIB}\r\n\r\n"
        connection.sendall(head.encode())
        assert read_to_end(connection).startswith("HTTP/1.1 413 ")
    too_large = post(url, bytes(5 * MIB))
    assert too_large.status_code == 413
    assert too_large.headers["connection"] == "close"


def test_slow_clients_do_not_stay(classifier: InProcess, video: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs.service.http_server, "_HEADERS_S", 1.0)
    with open_service(classifier, uploads=UploadLimits(MIB, 1.0)) as url:
        with connect(url) as connection:
            connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nX-Slow: ")
            assert read_to_end(connection) == "", "headers that do not end"
        with connect(url) as connection:
            connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow")
            assert read_to_end(connection).startswith("HTTP/1.1 408 "), "a body that does not end"
        with connect(url) as connection, pytest.raises(OSError):  # noqa: PT011 - a reset, or a closed pipe
            connection.sendall(b"GET / HTTP/1.1\r\n" + 500 * (b"X-Header: " + 2**16 * b"a" + b"\r\n"))
        assert post(url, video).status_code == 200


def test_more_requests_than_are_accepted_get_429_at_once(classifier: InProcess, video: bytes) -> None:
    with open_service(classifier, max_accepted=1) as url, connect(url) as connection:
        head = f"POST /v1/classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(video)}\r\n\r\n"
        connection.sendall(head.encode() + video[:10])
        while "accepted_requests 1.0" not in requests.get(f"{url}/metrics", timeout=60).text:
            time.sleep(0.05)
        refused = post(url, video)
        assert (refused.status_code, int(refused.headers["retry-after"])) == (429, 1)
        connection.sendall(video[10:])
        assert read_to_end(connection).startswith("HTTP/1.1 200 "), "the one that was accepted"
        assert post(url, video).status_code == 200


def test_all_but_health_and_documentation_ask_for_the_token(classifier: InProcess, video: bytes) -> None:
    with open_service(classifier, token="secret") as url:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}):
            answer = requests.post(f"{url}/v1/classify", data=video, headers=headers, timeout=60)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        for path, status in {"/v1/labels": 401, "/metrics": 401, "/healthz": 200, "/docs": 200}.items():
            assert requests.get(url + path, timeout=60).status_code == status, path
        with connect(url) as connection:
            connection.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
            assert read_to_end(connection).startswith("HTTP/1.1 401 "), "before a byte of the body"
        right = {"Authorization": "Bearer secret"}
        assert requests.post(f"{url}/v1/classify", data=video, headers=right, timeout=60).status_code == 200


@pytest.mark.slow
def test_videos_that_take_too_long_or_too_much_memory_are_given_up(checkpoint: Path, video: bytes) -> None:
    large, long = huge_frames(4000, 20), huge_frames(1500, 2000)
    assert len(large) < MIB
    uploads = UploadLimits(64 * MIB, 60)
    with (
        open_replica(checkpoint, decoders=1, timeout_s=6, memory_mb=64) as replica,
        open_service(InProcess(replica), uploads=uploads) as url,
    ):
        answer = post(url, large)
        assert (answer.status_code, answer.json()["reason"]) == (422, "too large"), answer.text
        assert answer.json()["error"] == "decoding takes more than 64 MiB of memory"
        answer = post(url, long, timeline="true")
        assert (answer.status_code, answer.json()["reason"]) == (422, "hang"), answer.text
        assert answer.json()["error"] == "decoding took more than 6 s"
        assert post(url, video).status_code == 200, "a new process decodes"
