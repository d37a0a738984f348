"""What a client may not do, and what the service does where it has too much to do."""

import concurrent.futures
import threading
import time

import pytest

from dicm_jax.errors import ServableError
from dicm_jax.serving import Ranker
from tests.serving.http.app_under_test import body, running
from tests.serving.made import BUCKETS

RANK = {"user": {}, "candidates": ["1", "2"]}
RANK_BYTES = b'{"user": {}, "candidates": ["1", "2"]}'


def test_a_body_in_parts_is_put_together(under_test):
    parts = [bytes([byte]) for byte in RANK_BYTES]
    status, _, answer = under_test.raw("/v1/rank", body(*parts))
    assert status == 200, answer


def test_a_large_body_is_refused_before_it_is_read(under_test):
    # There is nothing to receive: receiving would fail.
    status, headers, answer = under_test.raw("/v1/rank", [], content_length="300001")
    assert (status, headers["connection"]) == (413, "close")
    assert b"a body of more than 300,000 bytes: send fewer at a time" in answer
    status, _, _ = under_test.raw("/v1/rank", body(b"{"), content_length="300000")
    assert status == 422


@pytest.mark.parametrize("length", [None, "17", "x", "-1"])
def test_a_large_body_without_its_length_is_refused_on_the_way(under_test, length):
    headers = {} if length is None else {"content_length": length}
    parts = [b" " * 100_000] * 3 + [b" "]
    status, answered, _ = under_test.raw("/v1/rank", body(*parts, b"never read"), **headers)
    assert (status, answered["connection"]) == (413, "close")


def test_a_slow_body_is_given_up(under_test):
    slow = [*body(RANK_BYTES[:9], b"")[:1], {"sleep": 30}, *body(RANK_BYTES[9:])]
    began = time.monotonic()
    status, headers, answer = under_test.raw("/v1/rank", slow)
    assert time.monotonic() - began < 10
    assert (status, headers["connection"]) == (408, "close")
    assert b"the body did not arrive within 0.5 s" in answer


def test_a_client_that_goes_is_no_error_of_the_service(under_test):
    labels = {"path": "/v1/rank"}
    before = under_test.metric("dicm_requests_total", **labels, status="500")
    gone = under_test.metric("dicm_requests_total", **labels, status="499")
    messages = [*body(b"{", b"")[:1], {"type": "http.disconnect"}]
    assert under_test.raw("/v1/rank", messages)[0] is None
    assert under_test.metric("dicm_requests_total", **labels, status="499") == gone + 1
    assert under_test.metric("dicm_requests_total", **labels, status="500") == before


def test_requests_and_candidates_are_counted(under_test):
    def counted() -> list[float]:
        labels = {"path": "/v1/rank"}
        return [
            under_test.metric("dicm_requests_total", **labels, status="200"),
            under_test.metric("dicm_requests_total", **labels, status="422"),
            under_test.metric("dicm_requests_total", path="other", status="404"),
            under_test.metric("dicm_request_seconds_count", **labels),
            under_test.metric("dicm_candidates_total"),
        ]

    before = counted()
    for _ in range(3):
        assert under_test.client.post("/v1/rank", json=RANK).status_code == 200
    under_test.client.post("/v1/rank", content=b"{")
    for name in ("/x1", "/x2"):
        under_test.client.get(name)
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [3, 1, 2, 4, 6]
    text = under_test.client.get("/metrics").text
    assert 'dicm_requests_total{path="/v1/rank",status="200"}' in text
    assert 'dicm_servable{version="servable/1"} 1.0' in text
    assert "x1" not in text  # what clients make up does not fill the memory
    assert under_test.metric("dicm_pending_requests") == 0


def test_alive_and_ready(under_test):
    assert under_test.client.get("/healthz").json() == {"status": "alive"}
    answer = under_test.client.get("/readyz")
    assert (answer.status_code, answer.json()["version"]) == (200, "servable/1")


def test_a_token_is_asked_for(servable, quickly_compiled):
    with running(servable, token="gehüim") as under_test:
        client = under_test.client
        good = [(b"authorization", "Bearer gehüim".encode())]
        for path in ("/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        for path in ("/metrics", "/v1/users", "/v1/photos/1", "/openapi.json", "/v1/model"):
            answer = client.get(path)
            assert answer.status_code == 401, path
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "Authorization: Bearer TOKEN" in answer.json()["error"]
        for wrong in (
            b"",
            b"Bearer ",
            b"Bearer gehuim",
            b"bearer geh\xfcim",
            b"Basic eDp5",
            b"\xff",
        ):
            answer = client.post("/v1/rank", json=RANK, headers=[(b"authorization", wrong)])
            assert answer.status_code == 401, wrong
        assert client.post("/v1/rank", json=RANK, headers=good).status_code == 200
        # Who has no token may not keep the service waiting for a body either.
        assert under_test.raw("/v1/rank", [])[0] == 401


def test_more_than_may_wait_are_refused_at_once(servable, quickly_compiled):
    release = threading.Event()

    class Slow(Ranker):
        def rank(self, *arguments, **named):
            assert release.wait(60)
            return super().rank(*arguments, **named)

    def load(folder):
        return Slow(folder, room=4, buckets=BUCKETS)

    with (
        running(servable, load=load, waiting=3, timeout_s=60.0) as under_test,
        concurrent.futures.ThreadPoolExecutor(3) as pool,
    ):
        client = under_test.client
        asked = [pool.submit(client.post, "/v1/rank", json=RANK) for _ in range(3)]
        try:
            while under_test.metric("dicm_pending_requests") < 3:
                time.sleep(0.01)
            answer = client.post("/v1/rank", json=RANK)
            assert answer.status_code == 429
            assert answer.headers["retry-after"] == "1"
            assert "3 requests are waiting, as many as may" in answer.json()["error"]
            assert client.get("/healthz").status_code == 200
            assert under_test.metric("dicm_refused_requests_total") == 1
        finally:
            release.set()
        assert [answer.result().status_code for answer in asked] == [200] * 3
        assert client.post("/v1/rank", json=RANK).status_code == 200
        assert under_test.metric("dicm_pending_requests") == 0


def test_what_takes_too_long_is_given_up_and_still_counts(servable, quickly_compiled):
    release = threading.Event()

    class Slow(Ranker):
        def rank(self, *arguments, **named):
            assert release.wait(60)
            return super().rank(*arguments, **named)

    def load(folder):
        return Slow(folder, room=4, buckets=BUCKETS)

    with running(servable, load=load, waiting=1, timeout_s=0.1) as under_test:
        try:
            answer = under_test.client.post("/v1/rank", json=RANK)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert "not answered within 0.1 s" in answer.json()["error"]
            # It is at work still.
            assert under_test.client.post("/v1/rank", json=RANK).status_code == 429
        finally:
            release.set()
        while under_test.metric("dicm_pending_requests"):
            time.sleep(0.01)


def test_before_it_is_ready(servable):
    release = threading.Event()

    def load(folder):
        assert release.wait(60)
        raise ServableError("that was enough")

    import signal

    ended = []
    before = signal.signal(signal.SIGTERM, lambda *_: ended.append("SIGTERM"))
    try:
        with running(servable, ready=False, load=load) as under_test:
            client = under_test.client
            for method, path in (
                ("GET", "/readyz"),
                ("POST", "/v1/rank"),
                ("POST", "/v1/prerank"),
                ("GET", "/v1/users"),
                ("GET", "/v1/photos/1"),
                ("GET", "/v1/model"),
                ("GET", "/v1/card"),
            ):
                answer = client.request(
                    method, path, json=RANK if path == "/v1/rank" else {"user": {}}
                )
                assert answer.status_code == 503, path
                assert "still being loaded: ask again" in answer.json()["error"]
            for path in ("/healthz", "/metrics", "/docs", "/openapi.json"):
                assert client.get(path).status_code == 200
            release.set()
            while not ended:  # a first servable that cannot be used ends the service
                time.sleep(0.01)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not under_test.service.started


def test_an_error_of_the_service_itself_is_a_500_and_no_more(servable, quickly_compiled, caplog):
    class Broken(Ranker):
        def rank(self, *arguments, **named):
            raise ZeroDivisionError("secret detail")

    with running(
        servable, load=lambda folder: Broken(folder, room=4, buckets=BUCKETS)
    ) as under_test:
        answer = under_test.client.post("/v1/rank", json=RANK)
        assert answer.status_code == 500
        assert answer.json() == {"error": "an error of the service itself: see its log"}
        assert under_test.metric("dicm_requests_total", path="/v1/rank", status="500") == 1
        assert under_test.client.get("/readyz").status_code == 200
