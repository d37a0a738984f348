"""Each path answers what the ranker answers, and to what cannot be answered a 4xx."""

import base64
import json
import re

import jsonschema
import numpy as np
import pytest

from dicm_jax.errors import RequestError
from tests.serving.http.app_under_test import body, running

USER = {"fields": {"gender": 1}, "behaviors": ["3", "17", "99"]}


def _rank(**changes):
    return {"user": USER, "candidates": ["1", "2", "3"]} | changes


def test_scores_are_those_of_the_ranker(under_test, queries):
    for query in queries[:3]:
        asked = {"behaviors": list(query.user.behaviors), "fields": dict(query.user.fields)}
        sent = {"user": asked, "candidates": list(query.candidates), "explain": True}
        answer = under_test.client.post("/v1/rank", json=sent)
        assert answer.status_code == 200
        found, wanted = answer.json(), under_test.service.ranker.rank(query.user, query.candidates)
        np.testing.assert_allclose(found["scores"], wanted.scores, rtol=0, atol=1e-7)
        assert found["ranking"] == wanted.order.tolist()
        assert found["behaviors"] == list(wanted.behaviors)
        assert (found["version"], found["unknown_behaviors"]) == ("servable/1", 0)
        weights = under_test.service.ranker.attention(query)
        assert found["attention"].keys() == weights.keys()
        for name, weight_BL in weights.items():
            np.testing.assert_allclose(found["attention"][name], weight_BL, rtol=0, atol=1e-6)


def test_a_user_of_the_examples_by_id(under_test):
    users = under_test.client.get("/v1/users").json()["users"]
    assert len(users) == 6
    one = under_test.client.get(f"/v1/users/{users[0]['id']}").json()
    by_id = under_test.client.post("/v1/rank", json=_rank(user={"id": one["id"]})).json()
    told = {"fields": one["fields"], "behaviors": one["behaviors"]}
    assert by_id == under_test.client.post("/v1/rank", json=_rank(user=told)).json()


def test_the_models_and_images_can_be_chosen(under_test):
    answers = [
        under_test.client.post("/v1/rank", json=_rank(**more)).json()["scores"]
        for more in (
            {},
            {"model": "baseline"},
            {"images": False},
            {"context": {"position": [0, 5, 9]}},
        )
    ]
    assert len({tuple(scores) for scores in answers}) == 4


def test_prerank(under_test):
    answer = under_test.client.post("/v1/prerank", json={"user": USER, "count": 7})
    assert answer.status_code == 200
    found = answer.json()
    assert len(found["items"]) == len(found["scores"]) == 7
    assert found["scores"] == sorted(found["scores"], reverse=True)
    most = under_test.client.post("/v1/prerank", json={"user": USER, "count": 10_000}).json()
    assert len(most["items"]) == under_test.service.ranker.items
    assert most["items"][:7] == found["items"]


def test_items_that_are_added_are_ranked_at_once(under_test):
    row = [0.25] * 37
    added = {
        "items": [{"name": "új/../cipő", "fields": {"category": 1}, "features": {"image": row}}]
    }
    answer = under_test.client.post("/v1/items", json=added)
    assert answer.status_code == 200
    assert answer.json() == {"version": "servable/1", "added": 1, "items": 401}
    ranked = under_test.client.post("/v1/rank", json=_rank(candidates=["új/../cipő", "1"]))
    assert ranked.status_code == 200
    assert under_test.metric("dicm_items") == 401


BAD = {
    "no body": (b"", 422, "the body: Invalid JSON"),
    "no JSON": (b"{", 422, "Invalid JSON"),
    "no UTF-8": (b'{"user": {}, "candidates": ["\xff"]}', 422, "Invalid JSON|valid unicode"),
    "a list": (b"[]", 422, "Input should be an object"),
    "null": (b"null", 422, "Input should be an object"),
    "deep": (b"[" * 100_000, 422, "recursion limit"),
    "deep inside": (b'{"user":' + b'{"fields":' * 20_000, 422, "recursion limit"),
    "deep and closed": (
        b'{"user": {"fields": {"gender": ' + b"[" * 150 + b"]" * 150 + b"}}}",
        422,
        "user.fields",
    ),
    "a lone surrogate": (b'{"user": {}, "candidates": ["\\ud800"]}', 422, "hex escape"),
    "a surrogate as a key": (b'{"user": {}, "candidates": ["1"], "\\udfff": 1}', 422, "surrogate"),
    "NaN": (b'{"user": {"fields": {"gender": NaN}}, "candidates": ["1"]}', 422, "gender"),
    "Infinity": (
        b'{"user": {"fields": {"gender": -Infinity}}, "candidates": ["1"]}',
        422,
        "gender",
    ),
    "NUL": (b'{"user": {}, "candidates": ["\\u0000"]}', 404, "not known"),
    "twice": (b'{"user": {}, "candidates": ["1"], "candidates": ["no"]}', 404, "'no'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_malformed_body_is_refused(under_test, name):
    data, status, words = BAD[name]
    answer = under_test.client.post("/v1/rank", content=data)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert re.search(words, answer.json()["error"]), answer.text


@pytest.mark.parametrize("digits", [19, 20, 40, 4000, 4300, 4301, 20_000])
def test_huge_numbers_are_refused(under_test, digits):
    number = "9" * digits
    for told in (
        f'{{"user": {{"fields": {{"gender": {number}}}}}, "candidates": ["1"]}}',
        f'{{"user": {{}}, "candidates": ["1"], "context": {{"position": [-{number}]}}}}',
        f'{{"user": {{}}, "candidates": [{number}]}}',
        f'{{"user": {{"fields": {{"gender": {number}.5e999}}}}, "candidates": ["1"]}}',
    ):
        answer = under_test.client.post("/v1/rank", content=told.encode())
        assert answer.status_code == 422, answer.text
        assert len(answer.content) < 10_000
    item = f'{{"items": [{{"name": "x", "features": {{"image": [{number}]}}}}]}}'
    assert under_test.client.post("/v1/items", content=item.encode()).status_code == 422
    count = f'{{"user": {{}}, "count": {number}}}'
    assert under_test.client.post("/v1/prerank", content=count.encode()).status_code == 422


@pytest.mark.parametrize(
    ("path", "sent", "status", "words"),
    [
        ("/v1/rank", _rank(candidates=[]), 422, "candidates: List should have at least 1 item"),
        ("/v1/rank", _rank(candidates="1"), 422, "candidates: Input should be a valid array"),
        ("/v1/rank", _rank(candidates=[1]), 422, "candidates.0: Input should be a valid string"),
        ("/v1/rank", _rank(candidates=[""]), 422, "at least 1 character"),
        ("/v1/rank", _rank(candidates=["x" * 257]), 422, "at most 256 characters"),
        ("/v1/rank", _rank(candidates=["1"] * 10_001), 422, "at most 10000 items"),
        ("/v1/rank", _rank(candidates=["1", "?"]), 404, "1 of 2 candidates are not known, such as"),
        ("/v1/rank", _rank(user=None), 422, "user: Input should be an object"),
        ("/v1/rank", {"candidates": ["1"]}, 422, "user: Field required"),
        ("/v1/rank", _rank(user={"id": "nobody"}), 404, "no user 'nobody' among the 6 examples"),
        ("/v1/rank", _rank(user={"id": "1", "behaviors": ["2"]}), 422, "by id and by fields"),
        ("/v1/rank", _rank(user={"fields": {"gender": True}}), 422, "user.fields.gender"),
        ("/v1/rank", _rank(user={"fields": {"gender": 1.0}}), 422, "user.fields.gender"),
        ("/v1/rank", _rank(user={"fields": {"gender": None}}), 422, "user.fields.gender"),
        ("/v1/rank", _rank(user={"fields": {"gendr": 1}}), 404, "did you mean 'gender'"),
        ("/v1/rank", _rank(user={"fields": {"gender": 77}}), 422, "given key 77: its vocabulary"),
        ("/v1/rank", _rank(user={"fields": {str(n): n for n in range(300)}}), 422, "at most 256"),
        ("/v1/rank", _rank(user={"behaviors": ["1"] * 10_001}), 422, "at most 10000"),
        ("/v1/rank", _rank(context={"position": [1]}), 422, "has 1 values for 3 candidates"),
        ("/v1/rank", _rank(context={"position": [1, 2, True]}), 422, "context.position.2"),
        ("/v1/rank", _rank(context={"shop": [1, 2, 3]}), 404, "no context field 'shop'"),
        ("/v1/rank", _rank(model="prerank"), 422, "model: Input should be 'dicm' or 'baseline'"),
        ("/v1/rank", _rank(images=1), 422, "images: Input should be a valid boolean"),
        ("/v1/rank", _rank(more=1), 422, "more: Extra inputs are not permitted"),
        ("/v1/prerank", {"user": USER, "count": 0}, 422, "count: Input should be greater than or"),
        (
            "/v1/prerank",
            {"user": USER, "count": 10_001},
            422,
            "count: Input should be less than or",
        ),
        (
            "/v1/prerank",
            {"user": USER, "count": True},
            422,
            "count: Input should be a valid integer",
        ),
        ("/v1/items", {"items": []}, 422, "items: List should have at least 1 item"),
        ("/v1/items", {"items": [{"name": "x"}] * 257}, 422, "at most 256 items"),
        ("/v1/items", {"items": [{"name": f"n{n}"} for n in range(200)]}, 413, "no room for 200"),
        ("/v1/items", {"items": [{"name": "x", "features": {"image": [1.0]}}]}, 422, "give 37 num"),
        (
            "/v1/items",
            {"items": [{"name": "x", "features": {"image": ["1"]}}]},
            422,
            "image.0: Input should",
        ),
        ("/v1/items", {"items": [{"name": "x", "features": {"image": [True]}}]}, 422, "image.0"),
        ("/v1/items", {"items": [{"name": "x", "features": {"image": [1e300] * 37}}]}, 422, "inf"),
        ("/v1/items", {"items": [{"name": "x", "photo": "AAAA"}]}, 422, "no image encoder"),
        ("/v1/items", {"items": [{"name": "x", "path": "/etc/passwd"}]}, 422, "path: Extra inputs"),
    ],
)
def test_what_cannot_be_answered_says_why(under_test, path, sent, status, words):
    answer = under_test.client.post(path, content=json.dumps(sent))
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"], answer.text
    assert answer.headers["content-type"] == "application/json"


def test_a_photo_that_is_none(servable, quickly_compiled):
    def encode(photo: bytes) -> np.ndarray:
        if photo != b"a photo":
            raise RequestError("no picture: send a JPEG or a PNG")
        return np.full(37, 0.5, np.float32)

    with running(servable, encode=encode) as under_test:
        for photo, status, words in (
            ("!!", 422, "item 'x': its photo is no base64"),
            (base64.b64encode(b"none").decode(), 422, "no picture"),
            (base64.b64encode(b"a photo").decode(), 200, ""),
        ):
            answer = under_test.client.post(
                "/v1/items", json={"items": [{"name": "x", "photo": photo}]}
            )
            assert answer.status_code == status, answer.text
            assert words in answer.text
        assert under_test.client.post("/v1/rank", json=_rank(candidates=["x"])).status_code == 200


def test_an_answer_does_not_repeat_what_was_sent(under_test):
    for sent in (
        _rank(**{"x" * 200_000: 1}),
        _rank(candidates=["x" * 200_000]),
        _rank(candidates=["x" * 250] * 1000),
        _rank(user={"fields": {"y" * 200_000: 1}}),
        _rank(user={"fields": {"z" * 250: 1}}),
    ):
        answer = under_test.client.post("/v1/rank", json=sent)
        assert answer.status_code in (404, 422)
        assert len(answer.content) < 2000


def test_every_answer_of_a_refused_body_leaves_the_service_well(under_test):
    rng = np.random.default_rng(0)
    whole = json.dumps(_rank(user={"fields": {"gender": 1}, "behaviors": ["1"]})).encode()
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(256)
        answer = under_test.client.post(
            "/v1/rank", content=bytes(data[: rng.integers(len(data)) + 1])
        )
        assert answer.status_code in (200, 404, 422), answer.text
        assert answer.json()
    assert under_test.client.post("/v1/rank", json=_rank()).status_code == 200


@pytest.mark.parametrize(
    "name",
    ["..", "../1/servable.json", "%2e%2e%2fservable.json", "..%2fservable.json", "1.svg", "%00"],
)
def test_no_photo_is_a_path(under_test, name):
    answer = under_test.client.get(f"/v1/photos/{name}")
    assert answer.status_code == 404
    assert b"format" not in answer.content
    status, _, _ = under_test.raw(f"/v1/photos/../../{name}", body(b""), method="GET")
    assert status == 404


def test_photos_of_examples(under_test):
    user = under_test.client.get("/v1/users").json()["users"][0]["id"]
    shown = under_test.client.get(f"/v1/users/{user}").json()["candidates"]
    answers = [under_test.client.get(f"/v1/photos/{name}") for name in shown]
    there = [answer for answer in answers if answer.status_code == 200]
    assert there
    assert {answer.headers["content-type"] for answer in there} <= {"image/svg+xml", "image/jpeg"}
    assert {answer.status_code for answer in answers} <= {200, 404}


def test_paths_and_methods_that_are_not_there(under_test):
    for method, path, status in (
        ("GET", "/v1/rank", 405),
        ("HEAD", "/v1/rank", 405),
        ("POST", "/healthz", 405),
        ("DELETE", "/v1/items", 405),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/nothing", 404),
        ("GET", "/v1/users/nobody", 404),
        ("GET", "/page/../../serve.py", 404),
    ):
        answer = under_test.client.request(method, path)
        assert answer.status_code == status, (method, path)
        if method != "HEAD":
            assert "error" in answer.json()


def test_openapi_is_valid_and_tells_of_bodies(under_test):
    answer = under_test.client.get("/openapi.json")
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    assert {"RankBody", "PrerankBody", "ItemsBody", "UserBody", "ItemBody", "Problem"} <= set(
        schemas
    )
    for reference in _references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas, reference
    for name, schema in schemas.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert "title" in schema, name
    # What the document says of a body is what the service takes.
    whole = {"$ref": "#/components/schemas/RankBody", "components": document["components"]}
    validator = jsonschema.Draft202012Validator(whole)
    assert validator.is_valid(_rank())
    assert not validator.is_valid(_rank(candidates=[]))
    assert not validator.is_valid(_rank(more=1))
    for path in ("/v1/rank", "/v1/prerank", "/v1/items"):
        assert {"200", "401", "404", "408", "413", "422", "429", "503"} <= set(
            document["paths"][path]["post"]["responses"]
        )


def _references(value):
    if isinstance(value, dict):
        for key, part in value.items():
            if key == "$ref":
                yield part
            else:
                yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


def test_docs_model_and_card(under_test):
    assert under_test.client.get("/docs").status_code == 200
    model = under_test.client.get("/v1/model").json()
    assert model["models"]["dicm"]["attention"] == ["image/image", "image/ids"]
    assert "## How good" in under_test.client.get("/v1/card").text
