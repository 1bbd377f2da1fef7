"""Findings: results of checks on one machine, their combination over many, and their table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.text import Text

from pipeline.cli.errors import explain
from pipeline.cli.text_table import TextTable, print_table

MOST_NODES_TOLD = 4
_WIDTH = 140  # columns in a log
VERSIONS = "versions"


class SkippedCheck(Exception):  # noqa: N818 - nothing went wrong
    """Raised by a check that does not apply here; the message is the reason."""


@dataclass(frozen=True)
class Finding:
    """Result of a check, one line of the table.

    Attributes:
        check: name of the check.
        status: passed, failed or skipped.
        text: what was found; after a failure, the problem and its fix; after a skip, the reason.
    """

    check: str
    status: Literal["passed", "failed", "skipped"]
    text: str


def examine(check: str, look: Callable[[], str]) -> Finding:
    """Runs a check.

    Args:
        check: name of the check.
        look: returns the text of a passed check; raises `SkippedCheck` to skip, any other exception to fail.
    """
    try:
        return Finding(check, "passed", look())
    except SkippedCheck as reason:
        return Finding(check, "skipped", str(reason))
    except Exception as error:
        return Finding(check, "failed", explain(error) or type(error).__name__)


def combine(of_nodes: Mapping[str, Sequence[Finding]]) -> list[Finding]:
    """Combines the findings of all nodes into one finding a check.

    Args:
        of_nodes: the findings of each node, by its name; all nodes have the same checks in the same order.

    Returns:
        A finding for each check: failed if it failed on any node, with the nodes named; else passed if it passed on
        any; else skipped.
    """
    first = next(iter(of_nodes.values()))
    combined = []
    for place, finding in enumerate(first):
        of_check = {node: findings[place] for node, findings in of_nodes.items()}
        failed = {node: each.text for node, each in of_check.items() if each.status == "failed"}
        passed = [each.text for each in of_check.values() if each.status == "passed"]
        if failed:
            combined.append(Finding(finding.check, "failed", _by_node(failed)))
        elif passed:
            where = f"on {len(passed)} of {len(of_check)} nodes" if len(of_check) > 1 else ""
            told = f"{passed[0]}{', and others' if len(set(passed)) > 1 else ''}"
            combined.append(Finding(finding.check, "passed", f"{where}: {told}" if where else told))
        else:
            combined.append(finding)
    return combined


def compare_versions(of_nodes: Mapping[str, Mapping[str, str]]) -> Finding:
    """Checks that all nodes have the same versions of libraries.

    Args:
        of_nodes: version by library, for each node; a library that is not installed is absent or "".
    """
    libraries = list(dict.fromkeys(name for versions in of_nodes.values() for name in versions))
    different = []
    for library in libraries:
        by_version: dict[str, list[str]] = {}
        for node, versions in of_nodes.items():
            by_version.setdefault(versions.get(library) or "none", []).append(node)
        if len(by_version) > 1:
            places = (f"{version} on {_shortened(nodes)}" for version, nodes in by_version.items())
            different.append(f"{library} {', '.join(places)}")
    if different:
        return Finding(VERSIONS, "failed", f"{'; '.join(different)}: install the same everywhere")
    versions = next(iter(of_nodes.values()))
    told = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return Finding(VERSIONS, "passed", f"on all {len(of_nodes)} nodes: {told}" if len(of_nodes) > 1 else told)


def print_findings(title: str, findings: Sequence[Finding]) -> None:
    """Prints the findings as a table on standard output, and a line with the number of each status."""
    table = TextTable(title=title, show_lines=False)
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("found, or what to do")
    colors = {"passed": "green", "failed": "bold red", "skipped": "dim"}
    for finding in findings:
        table.add_row(finding.check, Text(finding.status, colors[finding.status]), finding.text)
    print_table(table, _WIDTH)
    counts = {status: sum(each.status == status for each in findings) for status in colors}
    print(", ".join(f"{count} {status}" for status, count in counts.items()))


def _by_node(texts: Mapping[str, str]) -> str:
    """Joins texts with the names of their nodes; equal texts once."""
    nodes_of: dict[str, list[str]] = {}
    for node, text in texts.items():
        nodes_of.setdefault(text, []).append(node)
    return "; ".join(f"{_shortened(nodes)}: {text}" for text, nodes in nodes_of.items())


def _shortened(nodes: Sequence[str]) -> str:
    more = f" and {len(nodes) - MOST_NODES_TOLD} more" if len(nodes) > MOST_NODES_TOLD else ""
    return ", ".join(nodes[:MOST_NODES_TOLD]) + more
