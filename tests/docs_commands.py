"""The commands in README and docs: those of the fenced blocks, and the tour through them.

Every command of a fenced block is run, by `tests/test_docs_commands.py`, `tests/test_docs_without_jobs.py` or
`tests/test_gestures.py`, or carries the mark `# not run: reason`. A command that stands on several pages is run once.
"""

import re
import shlex

from tests.conftest import REPOSITORY

README = REPOSITORY / "README.md"
PAGES = [README, *sorted((REPOSITORY / "docs").rglob("*.md"))]
NOT_RUN = re.compile(r"#\s*not run: \S+")
MAKE = {"make demo", "make test"}  # `make demo` is demo.sh, run by test_the_demo; the other is this suite
# The pages of the tour, in the order in which they need each other, and those that need real clips, with the variable.
TOUR = [
    "README.md",
    "docs/get-started.md",
    "docs/datasets/pack.md",
    "docs/datasets/splits.md",
    "docs/datasets/segments.md",
    "docs/datasets/several-labels.md",
    "docs/datasets/flow.md",
]
TOUR += [
    "docs/cluster/tune.md",
    "docs/training/unbalanced-classes.md",
    "docs/features.md",
    "docs/classify.md",
    "docs/timelines.md",
    "docs/export.md",
    "docs/publish.md",
    "docs/label-tools.md",
    "docs/live.md",
    "docs/models.md",
]
FIGHTS, WEIGHTS = "docs/results.md", "Published weights"
GESTURES = "docs/datasets/gestures.md"  # run by tests/test_gestures.py
OWN_VIDEOS = "docs/own-videos.md"


def section(name: str, heading: str) -> str:
    return (REPOSITORY / name).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]


def commands(text: str) -> list[str]:
    """The command lines of the fenced blocks, Python blocks as one command each, those marked as not run left out."""
    found = []
    for language, block in re.findall(r"^```(bash|python)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        if language == "python":
            found.append(f"python -c {shlex.quote(block)}")
            continue
        lines = [line.strip() for line in block.splitlines() if not NOT_RUN.search(line)]
        found += [line.split("  #")[0].strip() for line in lines if line and not line.startswith("#")]
    return [line for line in found if line not in MAKE]


def once(lines: list[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def tour() -> list[str]:
    """The commands of the tour: the README's are those of get-started.md; those of `Published weights` need a clip."""
    published = commands(section("docs/models.md", WEIGHTS))
    started = commands((REPOSITORY / TOUR[1]).read_text())
    others = [line for name in TOUR[2:] for line in commands((REPOSITORY / name).read_text())]
    return [line for line in once(started + others) if line not in published]
