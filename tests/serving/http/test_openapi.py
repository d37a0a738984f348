"""Requests made of the service's own OpenAPI document, and mutilated ones: none ends in a 5xx."""

import json
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from dicm_jax.serving.http.app import Settings, create_app
from dicm_jax.serving.http.service import Service

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of packages that it brings with it
    import schemathesis

UNHURRIED = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
EXAMPLES = 40
"""Of each path, and of each way to mutilate."""


@pytest.fixture(scope="module")
def client(servable, ranker):
    """A service that is ready, in this process; errors are answers, as they are for a client."""
    service = Service(servable, lambda folder: ranker)
    app = create_app(service, Settings(reload_s=0))
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").status_code == 503:
            pass
        yield client


@pytest.fixture(scope="module")
def document(client):
    return client.get("/openapi.json").json()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/v1/rank", "post"),
        ("/v1/prerank", "post"),
        ("/v1/items", "post"),
        ("/v1/users/{user_id}", "get"),
        ("/v1/photos/{item}", "get"),
        ("/v1/users", "get"),
        ("/v1/model", "get"),
    ],
)
def test_requests_that_the_document_allows(client, document, path, method):
    """What the document allows is answered, or refused with an error that it lists."""
    operation = schemathesis.openapi.from_dict(document)[path][method]
    listed = {int(code) for code in document["paths"][path][method]["responses"]}

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=UNHURRIED,
    )
    def ask(case):
        answer = client.request(**_as_request(case))
        assert answer.status_code in listed | {404}, answer.text
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert answer.json()["error"]

    ask()


def _as_request(case):
    made = {"method": case.method, "url": case.formatted_path}
    if case.method == "POST":
        made["content"] = json.dumps(case.body, default=str).encode()
        made["headers"] = {"Content-Type": "application/json"}
    return made


def test_the_document_holds_the_bodies(document):
    assert {"RankBody", "PrerankBody", "ItemsBody", "UserBody"} <= set(
        document["components"]["schemas"]
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["user", "candidates", "context", "model", "images", "explain", "items"])
bodies = st.one_of(
    st.binary(max_size=200),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(names, json_values, max_size=5).map(lambda body: json.dumps(body).encode()),
    # A good request with some bytes altered or lost.
    st.tuples(st.integers(0, 60), st.binary(max_size=3)).map(
        lambda cut: GOOD[: cut[0]] + cut[1] + GOOD[cut[0] + 1 :]
    ),
)
GOOD = b'{"user": {"behaviors": ["1", "2"]}, "candidates": ["3", "4"], "images": false}'


@pytest.mark.parametrize("path", ["/v1/rank", "/v1/prerank", "/v1/items"])
def test_bodies_of_any_kind(client, path):
    """Whatever bytes come, the answer is a 200 or says what is wrong with them."""

    @given(body=bodies)
    @settings(
        max_examples=5 * EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=UNHURRIED,
    )
    def ask(body):
        answer = client.post(path, content=body)
        assert answer.status_code in (200, 404, 413, 422), (body, answer.text)
        if answer.status_code != 200:
            assert answer.json()["error"]

    ask()
