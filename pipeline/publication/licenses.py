"""Identifiers of licenses that the Hugging Face Hub knows.

As huggingface/hub-docs lists them (docs/hub/repositories-licenses.md); one that the Hub has learned since is given with
a link to its text, as others are.
"""

import difflib
import re

_IDENTIFIERS = """
apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
lgpl-2.1 lgpl-3.0 isc lppl-1.3c ms-pl mpl-2.0 odc-by odbl openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib
pddl lgpl-lr deepfloyd-if-license llama2 llama3 llama3.1 llama3.2 llama3.3 gemma apple-amlr unknown
"""
HUB_LICENSES = frozenset(_IDENTIFIERS.split())  # all but `other`, which needs a link
_FILLERS = re.compile(r"\b(the|licen[cs]e|version|v(?=\d))|[-_]+")


def hub_license(name: str) -> str:
    """The Hub's identifier of a license: lower case, as it writes those of SPDX.

    Raises:
        ValueError: the Hub knows no such license; the message names the nearest one, if one is near.
    """
    identifier = name.lower()
    if identifier in HUB_LICENSES:
        return identifier
    words = "-".join(_FILLERS.sub(" ", identifier).split())
    nearest = difflib.get_close_matches(words, sorted(HUB_LICENSES), n=1)
    hint = f"the nearest is {nearest[0]}" if nearest else "it knows apache-2.0, mit, cc-by-4.0 and others"
    raise ValueError(
        f"license={name!r}: the Hub knows no license of this name; {hint}; for one that it does not know give "
        "--license-link too, where its text is"
    )
