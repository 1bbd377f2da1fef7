"""HTML and SVG out of the templates of this package, with all text of others escaped.

A page is one file that needs no network: its stylesheet and its pictures are inside.
"""

import base64
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from datamodules.storage.plain_text import printable

_LISTED = 20  # items of a list that a page shows


def render(template: str, **values: Any) -> str:
    """Fills in a template.

    Labels, keys and captions need no care in templates: what they print is escaped, for attributes too, and control
    characters, which no XML file may hold, are shown as `printable` shows them.

    Args:
        template: name of a file in pipeline/report/templates.
        values: names that the template uses; one that is missing is an error.
    """
    return _ENVIRONMENT.get_template(template).render(values)


def percent(share: float | None, digits: int = 1) -> str:
    """A share in [0, 1] as text, such as `78.7 %`, with a space that does not break; `-` for None."""
    return "-" if share is None else f"{100 * share:.{digits}f}\u202f%"


def _data_uri(file: bytes, media_type: str) -> Markup:
    return Markup(f"data:{media_type};base64,{base64.b64encode(file).decode()}")


def _listed(value: Any) -> str:
    """A value as text; of a long list the first items and the number of the others."""
    if not isinstance(value, list):
        return str(value)
    shown = ", ".join(map(str, value[:_LISTED]))
    return f"{shown} and {len(value) - _LISTED} more" if len(value) > _LISTED else shown


def _visible(value: Any) -> Any:
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_ENVIRONMENT = Environment(
    loader=PackageLoader("pipeline.report"),
    autoescape=True,
    finalize=_visible,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_ENVIRONMENT.filters |= {"percent": percent, "number": "{:,}".format, "data_uri": _data_uri, "listed": _listed}
