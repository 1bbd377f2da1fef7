"""What travels with a job, on real folders."""

from pathlib import Path

import pytest
import yaml

from jobs.spec.upload_paths import resolve_upload_paths
from jobs.submission.upload import stage_upload


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder: code, configs, data, runs, secrets."""
    folder = tmp_path / "project"
    files = {
        "my_model.py": "x = 1",
        "package/__init__.py": "",
        "package/blocks.py": "",
        "configs/run.yaml": "data: data.yaml\ntrainer: {max_epochs: 1}",
        "configs/data.yaml": "class_path: X",
        "lists/train.csv": "path,label",
        "data/list.csv": "big",
        "data/readme.txt": "",
        "datasets/__init__.py": "",
        "datasets/mine.py": "",
        "packed/index.parquet": "",
        "packed/dataset.json": "{}",
        "runs/a/config.yaml": "",
        "wandb/x.json": "{}",
        ".git/config.txt": "",
        ".env": "",
        "env/pyvenv.cfg": "",
        "env/lib/thing.py": "",
        "api_key.txt": "secret",
        "my-credentials.json": "{}",
        "tokens.py": "",
        "weights.safetensors": "w",
        "clip.mp4": "v",
        "notes/todo.txt": "",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "huge.csv").write_bytes(b"x" * (2**20 + 1))
    (folder / "link").symlink_to(folder / "data")
    return folder


def staged_files(folder: Path) -> set[str]:
    """The relative paths, without our own packages."""
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    ours = ("jobs/", "pipeline/", "lightning_modules/", "datamodules/")
    return {name for name in found if not name.startswith(ours)}


def test_code_and_configs_travel_and_nothing_else(project: Path, tmp_path: Path) -> None:
    target = tmp_path / "staged"
    stage_upload(["fit"], project, target)
    assert staged_files(target) == {
        "my_model.py",
        "package/__init__.py",
        "package/blocks.py",
        "configs/run.yaml",
        "configs/data.yaml",
        "lists/train.csv",
        "datasets/__init__.py",
        "datasets/mine.py",
        "tokens.py",
        "notes/todo.txt",
    }


def test_our_packages_travel_from_where_they_are_imported(project: Path, tmp_path: Path) -> None:
    target = tmp_path / "staged"
    (project / "pipeline").mkdir()
    (project / "pipeline" / "stray.py").write_text("")
    stage_upload(["fit"], project, target)
    for name in (
        "jobs/driver.py",
        "jobs/configs/ray.yaml",
        "pipeline/training/lightning_cli.py",
        "pipeline/report/templates/page.html",
        "lightning_modules/py.typed",
        "datamodules/batch.py",
    ):
        assert (target / name).is_file()
    assert not (target / "pipeline" / "stray.py").exists()
    assert not list(target.rglob("__pycache__"))


def test_include_and_exclude(project: Path, tmp_path: Path) -> None:
    target = tmp_path / "staged"
    stage_upload(
        ["fit"], project, target, include=["*.safetensors", "data/**/*.csv"], exclude=["notes/", "*.toml", "tokens.py"]
    )
    found = staged_files(target)
    assert {"weights.safetensors", "data/list.csv"} <= found
    assert not {"notes/todo.txt", "tokens.py", "data/readme.txt"} & found


def test_an_include_without_match_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"include: '\*\.onnx' matches no file"):
        stage_upload(["fit"], project, tmp_path / "staged", include=["*.onnx"])
    with pytest.raises(ValueError, match=r"include=/data/\*\.csv: must be relative to this folder"):
        stage_upload(["fit"], project, tmp_path / "staged", include=["/data/*.csv"])


def test_configs_are_rewritten_to_the_copy(project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere" / "over.yaml"
    outside.parent.mkdir()
    outside.write_text("model: ../absent.yaml\ndata: sub/part.yaml")
    (outside.parent / "sub").mkdir()
    (outside.parent / "sub" / "part.yaml").write_text("a: 1")
    (project / "configs" / "run.yaml").rename(project / "runs" / "kept.yaml")  # from a folder that is left out
    args = ["fit", "--config", "runs/kept.yaml", f"--config={outside}", "-c", "configs/data.yaml"]
    args += ["--data", "configs/data.yaml", "--data.root", "data", "--ckpt_path", "runs/last.ckpt"]
    target = tmp_path / "staged"
    rewritten = stage_upload(args, project, target)
    place = "named_from_outside/1"
    assert rewritten == [
        "fit",
        *("--config", "upload:runs/kept.yaml", f"--config=upload:{place}/over.yaml", "-c", "upload:configs/data.yaml"),
        *("--data", "upload:configs/data.yaml", "--data.root", "data", "--ckpt_path", "runs/last.ckpt"),
    ]
    assert (target / "runs/kept.yaml").is_file()
    assert (target / place / "sub/part.yaml").read_text() == "a: 1", "a config that a config names comes along"
    assert resolve_upload_paths(rewritten, Path("/node"))[2:4] == [
        "/node/runs/kept.yaml",
        f"--config=/node/{place}/over.yaml",
    ]


def test_split_files_travel_from_local_paths_alone(project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere.csv"
    outside.write_text("key,split\na,train\n")
    args = ["fit", "--data.init_args.split_file", "data/list.csv", f"--data.split_file={outside}"]
    args += [
        "--split-file",
        "mine",
        "--split_file=absent/on_the_nodes.csv",
        "--split-file",
        "https://example.org/a.csv",
    ]
    target = tmp_path / "staged"
    rewritten = stage_upload(args, project, target)
    assert rewritten[1:4] == [
        "--data.init_args.split_file",
        "upload:data/list.csv",
        "--data.split_file=upload:named_from_outside/1/elsewhere.csv",
    ]
    assert rewritten[4:] == args[4:]
    copies = ("data/list.csv", "named_from_outside/1/elsewhere.csv")
    assert [(target / name).read_text() for name in copies] == ["big", outside.read_text()]


def test_the_split_file_of_a_config_travels_from_a_relative_path(project: Path, tmp_path: Path) -> None:
    def stage(split_file: str, *more: str) -> Path:
        content = {"data": {"init_args": {"root": "data", "split_file": split_file}}}
        (project / "configs" / "run.yaml").write_text(yaml.safe_dump(content))
        target = tmp_path / f"staged{len(list(tmp_path.iterdir()))}"
        stage_upload(["fit", "--config", "configs/run.yaml", *more], project, target)
        return target

    outside = tmp_path / "elsewhere.csv"
    outside.write_text("key,split\na,train\n")
    assert (stage("data/list.csv") / "data" / "list.csv").read_text() == "big"
    for path in (str(outside), "../elsewhere.csv"):
        with pytest.raises(ValueError, match=r"travel with the job: give it as --data\.init_args\.split_file \S+csv$"):
            stage(path)
        stage(path, "--data.split_file", path)
    for path in ("mine", "https://example.org/a.csv", "/on/the/nodes.csv"):
        assert not (stage(path) / "data").exists()


def test_the_copy_does_not_change_with_the_file(project: Path, tmp_path: Path) -> None:
    target = tmp_path / "staged"
    stage_upload(["fit", "--config", "configs/run.yaml"], project, target)
    (project / "configs" / "run.yaml").write_text("trainer: {max_epochs: 100}")
    assert "max_epochs: 1}" in (target / "configs" / "run.yaml").read_text()


@pytest.mark.parametrize("flag", ["--config", "-c", "--conf"])
def test_a_missing_config_is_named(project: Path, tmp_path: Path, flag: str) -> None:
    with pytest.raises(FileNotFoundError, match=f"{flag} nothere.yaml: there is no such file"):
        stage_upload(["fit", flag, "nothere.yaml"], project, tmp_path / "staged")
