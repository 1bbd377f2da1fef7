"""pyproject.toml declares what the product imports, no more, and with bounds that CI's versions are within."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import REPOSITORY

PACKAGES = ("datamodules", "lightning_modules", "pipeline", "jobs")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
OPTIONAL = {"opencv-contrib-python-headless", "peft", "torchcodec", "transformers"}  # imported where it is installed
OPTIONAL |= {"optuna", "fastapi", "prometheus-client", "starlette", "uvicorn"}
NOT_IMPORTED = {"wandb"}  # Lightning's WandbLogger does
# What an installed distribution brings under another name than its own.
SHIPPED_WITH = {"lightning-fabric": "pytorch-lightning"}


def imported() -> dict[str, str]:
    """Third-party distributions that product code imports, each with a file that does."""
    owners, found = packages_distributions(), {}
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [str(node.module)]
                for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - set(PACKAGES):
                    owner = canonicalize_name(owners.get(top, [top])[0])
                    found[SHIPPED_WITH.get(owner, owner)] = path.relative_to(REPOSITORY).as_posix()
    return found


def declared(requirements: list[str]) -> dict[str, Requirement]:
    return {canonicalize_name(one.name): one for one in map(Requirement, requirements)}


def test_every_import_is_declared_and_every_declaration_imported() -> None:
    found = imported()
    needed = declared(PROJECT["dependencies"])
    undeclared = {name: where for name, where in found.items() if name not in {*needed, *OPTIONAL}}
    assert not undeclared, "imported, but not in pyproject.toml"
    assert set(needed) == (set(found) - OPTIONAL) | NOT_IMPORTED
    assert {name for extra in PROJECT["optional-dependencies"].values() for name in declared(extra)} >= OPTIONAL


def test_the_versions_that_ci_runs_are_within_the_bounds() -> None:
    pins = dict(re.findall(r"^(\S+)==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), flags=re.MULTILINE))
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    for name, requirement in declared(PROJECT["dependencies"]).items():
        assert requirement.specifier.contains(pinned[name]), requirement
        assert any(one.operator == ">=" for one in requirement.specifier), f"{requirement}: give the oldest version run"
