"""README and docs: their commands are run by a test, their tables equal the code, their paths and links exist."""

import ast
import importlib.util
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from datamodules.annotations.refusals import (
    ADDRESS,
    BAD_NAME,
    BY_HAND,
    CRASH,
    ERROR,
    HANG,
    NO_INTERVAL,
    OUTSIDE_CLASSES,
    Refusal,
)
from datamodules.dataset.index_table import CAPTIONS, FLOW, INDEX_SCHEMA, LABELS, TIMELINE
from datamodules.dataset.manifest import Manifest
from datamodules.leakage.split_leakage import Leak
from datamodules.video.video_container import REASONS
from jobs.cli import JOB_VERBS
from pipeline.cli.verbs import CONFIG_VERBS, LIGHTNING_VERBS, VERBS
from tests.conftest import REPOSITORY
from tests.docs_commands import FIGHTS, GESTURES, OWN_VIDEOS, PAGES, README, WEIGHTS, commands, section, tour
from tests.test_command_line import help_of

PACKAGES = ("datamodules", "lightning_modules", "pipeline", "jobs")


def name_of(page: Path) -> str:
    return page.relative_to(REPOSITORY).as_posix()


def test_every_fenced_command_is_run_or_marked():
    known = {*tour(), *commands(section("docs/models.md", WEIGHTS))}
    known.update(line for name in (FIGHTS, GESTURES, OWN_VIDEOS) for line in commands((REPOSITORY / name).read_text()))
    for page in PAGES:
        missing = [line for line in commands(page.read_text()) if line not in known]
        assert not missing, f"{name_of(page)}: no test runs {missing}"
        fences = re.findall(r"^```(\S*)\n", page.read_text(), flags=re.MULTILINE)
        assert set(fences) <= {"bash", "python", ""}, f"{name_of(page)}: a block of another language"


def test_commands_name_verbs_that_exist():
    for page in PAGES:
        for verb in re.findall(r"python -m pipeline ([a-z0-9]+)", page.read_text()):
            assert verb in {**VERBS, **CONFIG_VERBS, **LIGHTNING_VERBS}, f"{name_of(page)}: {verb}"
        for verb in re.findall(r"python -m jobs ([a-z]+)", page.read_text()):
            assert verb in JOB_VERBS, f"{name_of(page)}: {verb}"


def test_options_exist():
    """Of the verbs of `python -m pipeline` in commands, also those that are not run; and in the text, of any verb."""
    options = {}
    for verb in ("fit", *VERBS, *CONFIG_VERBS):
        options[verb] = {word.replace("_", "-") for word in re.findall(r"--[a-z][\w-]*", help_of(verb))}
    for verb in ("submit", "tune", "serve"):
        command = [sys.executable, "-m", "jobs", verb, "--help"]
        jobs = subprocess.run(command, capture_output=True, text=True, check=True)
        options[f"jobs {verb}"] = {word.replace("_", "-") for word in re.findall(r"--[a-z][\w-]*", jobs.stdout)}
    other = {"--nnodes"}  # torchrun's
    every = set.union(other, *options.values())
    for page in PAGES:
        text = page.read_text().replace(" && ", "\n")
        for verb, rest in re.findall(r"^(?:\S+=\S+ )*python -m pipeline (\w+) (.*)$", text, flags=re.MULTILINE):
            for option in re.findall(r" --([a-z][\w-]*)(?=[ =]|$)", rest.split("  #")[0]):
                found = f"--{option}".replace("_", "-")
                assert verb not in options or found in options[verb], f"{name_of(page)}: {verb} {found}"
        for option in re.findall(r"`(?:[a-z]+ )?--([a-z][\w-]*)[ `]", text):
            assert f"--{option}".replace("_", "-") in every, f"{name_of(page)}: --{option}"


def test_the_readme_is_short():
    assert len(README.read_text().splitlines()) <= 200


def test_the_layout_in_the_readme_is_that_of_the_packages():
    spec = importlib.util.spec_from_file_location("layout", REPOSITORY / "docs" / "layout.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert README.read_text() == module.with_layout(README.read_text()), "`make format` writes it anew"
    for package in PACKAGES:
        folders = {path.parent for path in (REPOSITORY / package).rglob("*.py")}
        assert all((folder / "__init__.py").is_file() for folder in folders)


def test_every_package_says_what_it_is_and_every_sub_package_has_its_page_of_api():
    for package in PACKAGES:
        for path in (REPOSITORY / package).rglob("__init__.py"):
            assert ast.get_docstring(ast.parse(path.read_text())), path
            name = ".".join(path.parent.relative_to(REPOSITORY).parts)
            assert f"::: {name}\n" in (REPOSITORY / f"docs/api/{name}.md").read_text()
        for path in (REPOSITORY / package).glob("[!_]*.py"):
            assert f"::: {package}.{path.stem}\n" in (REPOSITORY / f"docs/api/{package}.md").read_text()


def test_a_folder_has_at_most_16_files():
    for package in (*PACKAGES, "benchmarks"):
        counts = {folder: len(list(folder.glob("*.py"))) for folder in (REPOSITORY / package).rglob("*")}
        assert max(counts.values()) <= 16, max(counts, key=counts.get)


OTHERS_NAMES = {"save_last", "feature_fc6", "your_module", "my_models"}  # Lightning's; examples


def test_names_in_code_spans_are_in_the_code():
    """Names with an underscore, such as those of options and columns: a rename must reach the docs."""
    sources = [
        path for package in PACKAGES for path in (REPOSITORY / package).rglob("*") if path.suffix in (".py", ".yaml")
    ]
    known = {word for path in sources for word in re.findall(r"\w+", path.read_text())} | OTHERS_NAMES
    for page in PAGES:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for span in re.findall(r"`([^`\n]+)`", text):
            names = re.findall(r"(?<![\w/.{*-])(?:[\w.]+\.)?([a-z]+(?:_[a-z0-9]+)+)\b(?![./])", span)
            assert known >= set(names), f"{name_of(page)}: `{span}`"


def find(name: str) -> bool:
    """Whether there is such a module, or such a name in a module or package."""
    path, member = REPOSITORY / name.replace(".", "/"), name.rpartition(".")[2]
    files = (path.parent.with_suffix(".py"), path.parent / "__init__.py")
    inside = any(file.is_file() and re.search(rf"\b{member}\b", file.read_text()) for file in files)
    return path.is_dir() or path.with_suffix(".py").is_file() or inside


def test_paths_and_links_exist():
    for page in PAGES:
        text = page.read_text()
        for path in re.findall(
            r"`((?:datamodules|lightning_modules|pipeline|jobs|tests|benchmarks|docs)/[\w./-]+)`", text
        ):
            assert (REPOSITORY / path).exists(), f"{name_of(page)}: {path}"
        for name in re.findall(
            r"`((?:datamodules|lightning_modules|pipeline|jobs)(?:\.[a-z_]\w*)+(?:\.[A-Z]\w*)?)`", text
        ):
            module = REPOSITORY / (name.rpartition(".")[0].replace(".", "/") + ".py")
            folder = REPOSITORY / name.replace(".", "/")
            inside = module.is_file() and f" {name.rpartition('.')[2]}(" in module.read_text()
            inside = inside or (module.is_file() and name.rpartition(".")[2] in module.read_text())
            assert inside or folder.is_dir() or folder.with_suffix(".py").is_file(), f"{name_of(page)}: {name}"
    for script in re.findall(
        r"`((?:datasets|loading|networks|cluster)/\w+)`", (REPOSITORY / "docs/benchmarks.md").read_text()
    ):
        assert (REPOSITORY / f"benchmarks/{script}.py").is_file(), script
    for target in re.findall(r"\]\((?!http)([^)#]+)", README.read_text()):  # mkdocs checks those of docs/
        assert (REPOSITORY / target).exists(), target


def test_every_page_begins_with_its_question():
    for page in PAGES[1:]:
        if page.parent.name != "api":
            assert re.match(r"# .+\n\nThis page answers: ", page.read_text()), name_of(page)


def rows(heading: str) -> dict[str, str]:
    """The first two columns of the table in a section of format.md."""
    table = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section("docs/datasets/format.md", heading), flags=re.MULTILINE)
    return {name: kind.strip() for name, kind in table}


def test_the_columns_of_the_format_are_those_of_the_code():
    types = {
        field.name: re.sub(r"list<\w+: (\w+)>", r"list of \1", re.sub(r"struct<[^>]*>", "struct", str(field.type)))
        for field in (*INDEX_SCHEMA, LABELS, CAPTIONS, *FLOW, TIMELINE)
    }
    assert rows("index.parquet") == types
    assert set(rows("dataset.json")) == {field.name for field in fields(Manifest)}
    assert tuple(rows("quarantine.csv")) == Refusal._fields
    assert tuple(rows("split_guard.csv")) == Leak._fields
    text = section("docs/datasets/format.md", "quarantine.csv")
    others = (HANG, CRASH, ERROR, OUTSIDE_CLASSES, BAD_NAME, ADDRESS, NO_INTERVAL, BY_HAND)
    assert all(f"`{reason}`" in text for reason in (*REASONS, *others))


WORDS = (
    "video frame clip view shard split group fold rank node worker step run attempt checkpoint rendition quarantine "
    "leakage features inflation endpoint heartbeat"
)


def test_the_glossary_has_the_words_of_the_project():
    entries = re.findall(r"^\| ([^|`*]+) \|", (REPOSITORY / "docs/glossary.md").read_text(), flags=re.MULTILINE)
    defined = {word.strip() for entry in entries for word in entry.split(",")}
    assert set(WORDS.split()) <= defined, set(WORDS.split()) - defined
