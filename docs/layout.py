"""The layout of the repository, a line a folder, made of the docstrings of the packages; it stands in README.md.

python docs/layout.py           prints it
python docs/layout.py --write   puts it into README.md, between the two marks
"""

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("datamodules", "lightning_modules", "pipeline", "jobs")
BEGIN, END = "<!-- layout: made by docs/layout.py -->\n", "<!-- end of layout -->\n"
# Folders that are no Python package.
OTHERS = {
    "lightning_modules/labels": "Class names of published checkpoints.",
    "pipeline/configs": "Recipes: one YAML file a run, with paper, command, expected accuracy and cost.",
    "jobs/configs": "JobSpecs, and what a job adds to the Trainer's configuration.",
    "jobs/templates": "Slurm, KubeRay and AWS.",
    "benchmarks": "One script a question; README.md has the dated results.",
    "docs": "These pages.",
    "tests": "Mirrors the packages.",
}


def purpose(folder: Path) -> str:
    """The first paragraph of a package's docstring, on one line."""
    module = ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))
    return " ".join((ast.get_docstring(module) or "").split("\n\n")[0].split())


def layout() -> str:
    """A line a package, sub-package and other folder, as a fenced block."""
    lines = []
    for package in PACKAGES:
        lines.append((f"{package}/", purpose(ROOT / package)))
        folders = {path.parent.name: purpose(path.parent) for path in (ROOT / package).glob("*/__init__.py")}
        folders |= {name.partition("/")[2]: text for name, text in OTHERS.items() if name.startswith(f"{package}/")}
        lines.extend((f"  {name}/", folders[name]) for name in sorted(folders))
    lines.extend((f"{name}/", text) for name, text in OTHERS.items() if "/" not in name)
    width = max(len(name) for name, _ in lines) + 2
    return "```\n" + "\n".join(f"{name:<{width}}{text}" for name, text in lines) + "\n```\n"


def with_layout(readme: str) -> str:
    """README.md with the block between the marks replaced by today's layout."""
    before, _, rest = readme.partition(BEGIN)
    return before + BEGIN + layout() + END + rest.partition(END)[2]


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        (ROOT / "README.md").write_text(with_layout((ROOT / "README.md").read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(layout(), end="")
