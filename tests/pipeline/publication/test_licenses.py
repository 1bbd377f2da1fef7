"""A license is one that the Hub knows, or comes with a link."""

from pathlib import Path

import pytest

from pipeline.publication.licenses import HUB_LICENSES, hub_license
from pipeline.publication.publish_options import PublishOptions


def test_names_of_the_hub_are_taken_in_any_case():
    assert all(hub_license(name) == hub_license(name.upper()) == name for name in HUB_LICENSES)
    assert hub_license("CC-BY-NC-SA-4.0") == "cc-by-nc-sa-4.0"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("apache2", "the nearest is apache-2.0;"),
        ("CC-BY-NC-40", "the nearest is cc-by-nc-4.0;"),
        ("MIT License", "the nearest is mit;"),
        ("our-terms", "it knows apache-2.0, mit"),
        ("", "it knows apache-2.0, mit"),
    ],
)
def test_another_name_is_refused_with_the_nearest_one(name, hint):
    with pytest.raises(ValueError, match=f"license={name!r}: the Hub knows no .*; {hint}.*--license-link"):
        hub_license(name)


def test_with_a_link_any_name_is_taken_and_a_link_needs_one():
    folder = {"checkpoint": Path("c.ckpt"), "out": Path("out")}
    PublishOptions(**folder, license="our-terms", license_link="LICENSE").check()
    PublishOptions(**folder, license="MIT").check()
    with pytest.raises(ValueError, match="license='our-terms': the Hub knows no license of this name"):
        PublishOptions(**folder, license="our-terms").check()
    with pytest.raises(ValueError, match="license_link='LICENSE': give the license's name too"):
        PublishOptions(**folder, license_link="LICENSE").check()
