"""What the tests of exporting share with those of serving."""

from tests.serving.conftest import quickly_compiled, runs, servable

__all__ = ["quickly_compiled", "runs", "servable"]
