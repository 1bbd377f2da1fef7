"""Renders the templates of this package to HTML and SVG, with all inserted text escaped.

A page is one file that needs no network: stylesheet and pictures are embedded.
"""

import base64
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from datamodules.storage.plain_text import printable

_MAX_ITEMS = 20  # most items of a list that a page shows


def render(template: str, **values: Any) -> str:
    """Renders a template.

    Templates insert labels, keys and captions as they are: inserted text is escaped, in attributes too, and control
    characters, which XML forbids, are shown as `printable` shows them.

    Args:
        template: name of a file in pipeline/report/templates.
        values: the variables of the template; a missing variable is an error.
    """
    return _ENVIRONMENT.get_template(template).render(values)


def percent(share: float | None, digits: int = 1) -> str:
    """Formats a share in [0, 1], such as `78.7 %`, with a narrow no-break space; `-` for None."""
    return "-" if share is None else f"{100 * share:.{digits}f}\u202f%"


def _data_uri(file: bytes, media_type: str) -> Markup:
    return Markup(f"data:{media_type};base64,{base64.b64encode(file).decode()}")


def _format_value(value: Any) -> str:
    """Formats a value as text; of a list the first 20 items and the number of the others."""
    if not isinstance(value, list):
        return str(value)
    shown = ", ".join(map(str, value[:_MAX_ITEMS]))
    return f"{shown} and {len(value) - _MAX_ITEMS} more" if len(value) > _MAX_ITEMS else shown


def _escape_controls(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_ENVIRONMENT = Environment(
    loader=PackageLoader("pipeline.report"),
    autoescape=True,
    finalize=_escape_controls,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters |= {"percent": percent, "number": "{:,}".format, "data_uri": _data_uri, "listed": _format_value}
