"""The fixture `hub`, a Hugging Face Hub on loopback."""

from tests.hub_server import hub  # noqa: F401 # a fixture
