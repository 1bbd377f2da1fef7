"""CheckResult: the result of a check on one machine; the results of many machines combined, and their table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.text import Text

from pipeline.cli.errors import explain
from pipeline.cli.text_table import TextTable, print_table

MAX_NODES_NAMED = 4
_WIDTH = 140  # columns in a log
VERSIONS = "versions"


class SkippedCheck(Exception):  # noqa: N818 - nothing went wrong
    """Raised by a check that does not apply here; the message is the reason."""


@dataclass(frozen=True)
class CheckResult:
    """Result of a check, one line of the table.

    Attributes:
        check: name of the check.
        status: passed, failed or skipped.
        text: what was found; after a failure, the problem and its fix; after a skip, the reason.
    """

    check: str
    status: Literal["passed", "failed", "skipped"]
    text: str


def run_check(name: str, check_function: Callable[[], str]) -> CheckResult:
    """Runs a check.

    Args:
        name: name of the check.
        check_function: returns the text of a passed check; raises `SkippedCheck` to skip, any other exception to fail.
    """
    try:
        return CheckResult(name, "passed", check_function())
    except SkippedCheck as reason:
        return CheckResult(name, "skipped", str(reason))
    except Exception as error:
        return CheckResult(name, "failed", explain(error) or type(error).__name__)


def combine_results(node_results: Mapping[str, Sequence[CheckResult]]) -> list[CheckResult]:
    """Combines the results of all nodes into one result a check.

    Args:
        node_results: the results of each node, by its name; all nodes have the same checks in the same order.

    Returns:
        A result for each check: failed if it failed on any node, with the nodes named; else passed if it passed on
        any; else skipped.
    """
    first = next(iter(node_results.values()))
    combined = []
    for position, first_result in enumerate(first):
        check_results = {node: results[position] for node, results in node_results.items()}
        failed = {node: result.text for node, result in check_results.items() if result.status == "failed"}
        passed = [result.text for result in check_results.values() if result.status == "passed"]
        if failed:
            combined.append(CheckResult(first_result.check, "failed", _format_by_node(failed)))
        elif passed:
            prefix = f"on {len(passed)} of {len(check_results)} nodes" if len(check_results) > 1 else ""
            text = f"{passed[0]}{', and others' if len(set(passed)) > 1 else ''}"
            combined.append(CheckResult(first_result.check, "passed", f"{prefix}: {text}" if prefix else text))
        else:
            combined.append(first_result)
    return combined


def compare_versions(node_versions: Mapping[str, Mapping[str, str]]) -> CheckResult:
    """Checks that all nodes have the same versions of libraries.

    Args:
        node_versions: version by library, for each node; a library that is not installed is absent or "".
    """
    libraries = list(
        dict.fromkeys(name for installed_versions in node_versions.values() for name in installed_versions)
    )
    different = []
    for library in libraries:
        by_version: dict[str, list[str]] = {}
        for node, installed_versions in node_versions.items():
            by_version.setdefault(installed_versions.get(library) or "none", []).append(node)
        if len(by_version) > 1:
            described = (f"{version} on {_format_nodes(nodes)}" for version, nodes in by_version.items())
            different.append(f"{library} {', '.join(described)}")
    if different:
        return CheckResult(VERSIONS, "failed", f"{'; '.join(different)}: install the same everywhere")
    installed_versions = next(iter(node_versions.values()))
    listed = ", ".join(f"{name} {version}" for name, version in installed_versions.items() if version)
    return CheckResult(
        VERSIONS, "passed", f"on all {len(node_versions)} nodes: {listed}" if len(node_versions) > 1 else listed
    )


def print_check_results(title: str, results: Sequence[CheckResult]) -> None:
    """Prints the results as a table on standard output, and a line with the number of each status."""
    table = TextTable(title=title, show_lines=False)
    table.add_column("check", no_wrap=True)
    table.add_column("result", no_wrap=True)
    table.add_column("found, or what to do")
    colors = {"passed": "green", "failed": "bold red", "skipped": "dim"}
    for result in results:
        table.add_row(result.check, Text(result.status, colors[result.status]), result.text)
    print_table(table, _WIDTH)
    counts = {status: sum(each.status == status for each in results) for status in colors}
    print(", ".join(f"{count} {status}" for status, count in counts.items()))


def _format_by_node(texts: Mapping[str, str]) -> str:
    """Joins texts with the names of their nodes; equal texts once."""
    nodes_of: dict[str, list[str]] = {}
    for node, text in texts.items():
        nodes_of.setdefault(text, []).append(node)
    return "; ".join(f"{_format_nodes(nodes)}: {text}" for text, nodes in nodes_of.items())


def _format_nodes(nodes: Sequence[str]) -> str:
    suffix = f" and {len(nodes) - MAX_NODES_NAMED} more" if len(nodes) > MAX_NODES_NAMED else ""
    return ", ".join(nodes[:MAX_NODES_NAMED]) + suffix
