"""An application over the servable of `tests.serving.made`."""

from collections.abc import Iterator

import pytest

from tests.serving.http.app_under_test import UnderTest, running


@pytest.fixture(scope="module")
def under_test(servable, quickly_compiled) -> Iterator[UnderTest]:
    with running(servable, body_bytes=300_000, body_s=0.5) as found:
        yield found
