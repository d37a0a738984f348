"""The Explorer in a real browser: what a person sees, with mouse, keyboard and finger."""

import contextlib
import json
import re
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest
import uvicorn

from dicm_jax.checkpoint.run_folder import config_of
from dicm_jax.data.readers import read_log
from dicm_jax.data.schema import in_memory
from dicm_jax.serving.buckets import Bucket
from dicm_jax.serving.http import explorer
from dicm_jax.serving.http.app import Settings, create_app
from dicm_jax.serving.http.service import Service
from dicm_jax.serving.ranker import Ranker
from dicm_jax.serving.request import Query
from tests.serving.http.chromium import PROGRAM, Chromium, Page

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="no chromium or google-chrome on the PATH to look at the page with"
)
SHOWN = (
    "document.querySelectorAll('.candidate').length"
    " && [...document.images].every(image => image.complete)"
)
ORDER = ".candidate .name"


@pytest.fixture(scope="module", name="ranker")
def _ranker(servable, quickly_compiled) -> Ranker:
    return Ranker(servable, room=64, buckets=(Bucket(1, 32),))


@pytest.fixture(scope="module", name="browser")
def _browser() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture(scope="module", name="address")
def _address(servable, ranker) -> Iterator[str]:
    with served(servable, ranker) as address:
        yield address


@pytest.fixture(name="page")
def _page(browser, address) -> Iterator[Page]:
    """The page on a desk, with the first user; nothing may have gone wrong in it."""
    page = browser.page(width=1280, height=900)
    page.go(address)
    page.until(SHOWN)
    yield page
    page.close()
    assert page.errors == []


@contextlib.contextmanager
def served(servable, ranker, load=None, **settings) -> Iterator[str]:
    """The address of a service in this process."""
    service = Service(servable, load or (lambda folder: ranker))
    app = create_app(service, Settings(reload_s=0, **settings))
    server = uvicorn.Server(uvicorn.Config(app, port=0, ws="none", log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


def user_of(ranker: Ranker, page: Page) -> dict:
    """What was exported of the user that is looked at."""
    found = page.js("document.querySelector('#users').value")
    return next(user for user in ranker.examples["users"] if user["id"] == found)


def ranked(ranker: Ranker, user: dict, **how) -> list[str]:
    """Candidates of a user in the order in which they have to stand."""
    order = ranker.rank(ranker.users[user["id"]], user["candidates"], **how).order
    return [user["candidates"][number] for number in order]


def focused(page: Page) -> str:
    """The item of the candidate that has the focus."""
    return page.js("document.activeElement.dataset.item")


# ---- Looking


def test_a_user_his_past_and_his_candidates(page, ranker):
    user = user_of(ranker, page)
    assert user == ranker.examples["users"][0]
    assert page.texts(ORDER) == ranked(ranker, user)
    assert page.texts(".rank") == [str(1 + place) for place in range(len(user["candidates"]))]
    seen = ranker.rank(ranker.users[user["id"]], user["candidates"]).behaviors
    labels = page.js("[...document.querySelectorAll('.behavior')].map(e => e.ariaLabel)")
    assert [label.split(",")[0] for label in labels] == [f"item {item}" for item in seen]
    # Every photo that there is, is shown.
    loaded = page.js("[...document.images].filter(image => image.naturalWidth).length")
    pictured = [i for i in (*seen, *user["candidates"]) if i in ranker.examples["photos"]]
    assert loaded == len(pictured) > 0


def test_what_was_clicked_is_marked(page, ranker):
    user = user_of(ranker, page)
    clicked = {c for c, did in zip(user["candidates"], user["clicked"], strict=True) if did}
    marked = page.js(
        "[...document.querySelectorAll('.candidate.clicked')].map(e => e.dataset.item)"
    )
    assert set(marked) == clicked
    places = sorted(1 + page.texts(ORDER).index(item) for item in clicked)
    assert page.text(".modes small") == f"clicked: rank {', '.join(map(str, places))}"


def test_another_user_is_picked(page, ranker):
    other = ranker.examples["users"][2]
    page.js(
        f"(() => {{ const s = document.querySelector('#users'); s.value = {other['id']!r};"
        " s.dispatchEvent(new Event('change')); })()"
    )
    page.until(f"location.hash === '#{other['id']}'")
    assert page.texts(ORDER) == ranked(ranker, other)
    page.click("#next")
    page.until(f"location.hash === '#{ranker.examples['users'][3]['id']}'")
    assert page.texts(ORDER) == ranked(ranker, ranker.examples["users"][3])


def test_the_address_names_a_user(browser, address, ranker):
    page = browser.page(width=1280, height=900)
    page.go(f"{address}/#{ranker.examples['users'][1]['id']}")
    page.until(SHOWN)
    assert user_of(ranker, page) == ranker.examples["users"][1]


@pytest.mark.parametrize(
    ("mode", "how"), [("off", {"images": False}), ("baseline", {"model": "baseline"})]
)
def test_without_images_the_ranking_changes(page, ranker, mode, how):
    user = user_of(ranker, page)
    before, after = ranked(ranker, user), ranked(ranker, user, **how)
    assert before != after
    page.click(f"[value={mode}]")
    assert page.texts(ORDER) == after
    # Arrows: places won or lost.
    for item, said in zip(after, page.texts(".moved"), strict=True):
        won = before.index(item) - after.index(item)
        assert said == (f"▲ {won}" if won > 0 else f"▼ {-won}" if won else "=")
    assert "Attention is shown with images on" in page.text("#about")
    page.click("[value=images]")
    assert page.texts(ORDER) == before
    assert set(page.texts(".moved")) == {""}


def test_what_drew_the_attention_is_lit(page, ranker):
    user = user_of(ranker, page)
    order = ranked(ranker, user)
    weights = ranker.attention(Query(ranker.users[user["id"]], user["candidates"]))
    worst = user["candidates"].index(order[-1])
    page.hover(".candidate:last-child")
    page.until(f"document.querySelector('#about').textContent.includes('Item {order[-1]},')")
    for query, label in (("image/image", "its photo"), ("image/ids", "its ID fields")):
        page.click(f"[value='{query}']")
        page.hover(".candidate:last-child")
        weakest, strongest = weights[query][worst].min(), weights[query][worst].max()
        assert page.text("#about").endswith(f"weights {weakest:.3f} to {strongest:.3f}")
        size = abs(weights[query][worst])
        light = [float(value) for value in page.js(_STYLE.format("--light"))]
        expected = (size - size.min()) / (size.max() - size.min())
        assert light == pytest.approx(expected.tolist(), abs=2e-3)
        said = page.js("[...document.querySelectorAll('.behavior')].map(e => e.ariaLabel)")
        found = [float(words.split(f"{label} ")[1].split(",")[0]) for words in said]
        assert found == pytest.approx(weights[query][worst].tolist(), abs=6e-4)
    # Without the mouse, the chosen candidate's again.
    page.hover("h1")
    page.until(f"document.querySelector('#about').textContent.includes('Item {order[0]},')")


_STYLE = "[...document.querySelectorAll('.behavior')].map(e => e.style.getPropertyValue('{}'))"


# ---- Adding


@pytest.fixture(scope="module", name="twin")
def _twin(runs, ranker) -> dict:
    """A candidate of the first user once more, as if it were new: its row, its ID fields."""
    log = read_log(config_of(runs.dicm).data)
    item = next(
        item
        for item in ranker.examples["users"][0]["candidates"]
        if item in ranker.examples["photos"]
    )
    row = log.items.image_N[int(item)]
    features = in_memory(log.features)
    assert features.scale_V is not None
    row_D = features.rows_VD[row] * features.scale_V[row]
    servable = ranker.servable
    place = 1 + servable.names.index(item)
    fields, context = servable.fields_of("item"), servable.fields_of("context")
    keys = zip(fields, servable.items_NF[place], strict=True)
    usual = zip(context, servable.context_NF[place], strict=True)
    return {
        "of": item,
        "fields": {field.name: int(at) - field.first for field, at in keys},
        "context": {field.name: int(at) - field.first for field, at in usual},
        "features": {"image": row_D.tolist()},
    }


def test_an_item_is_added_from_a_file(page, ranker, twin, tmp_path):
    path = tmp_path / "twin.json"
    path.write_text(json.dumps({key: value for key, value in twin.items() if key != "of"}))
    count = len(page.texts(ORDER))
    page.click("#add")
    page.type("twin")
    page.choose_file("#file", path)
    page.click("#adding [type=submit]")
    page.until("!document.querySelector('#adding').open")
    order = page.texts(ORDER)
    assert len(order) == count + 1
    assert "twin" in order
    # Its row and its fields are those of another candidate: so is its score.
    scores = dict(zip(order, page.texts(".score"), strict=True))
    assert scores["twin"] == scores[twin["of"]]
    assert abs(order.index("twin") - order.index(twin["of"])) == 1
    chosen = page.js("document.querySelector('[aria-selected=true]').dataset.item")
    assert chosen == "twin"
    page.until("document.querySelector('#live').textContent.includes('Added item twin: rank')")
    # It is ranked for others too.
    page.click("#next")
    page.until(f"location.hash === '#{ranker.examples['users'][1]['id']}'")
    assert "twin" in page.texts(ORDER)


def test_an_item_is_added_from_a_pasted_row(page, twin):
    page.click("#add")
    page.type("pasted")
    page.click("#adding details summary")
    page.click("#row")
    page.type(json.dumps(twin["features"]["image"]))
    page.click("#ids summary")
    page.click("#ids input[name=category]")
    page.type(str(twin["fields"]["category"]))
    page.click("#adding [type=submit]")
    page.until("!document.querySelector('#adding').open")
    assert "pasted" in page.texts(ORDER)


def test_items_that_the_service_has_lost_go(page, ranker, twin):
    page.click("#add")
    page.type("lost")
    page.js(f"document.querySelector('#row').value = '{json.dumps(twin['features']['image'])}'")
    page.press("Enter")
    page.until("!document.querySelector('#adding').open")
    assert "lost" in page.texts(ORDER)
    # As after a new start of the service, which an answer of 404 stands for here.
    page.js(
        "(() => { const ask = fetch; window.fetch = (path, request) =>"
        " request.body?.includes('lost') ? Promise.resolve(Response.json({}, {status: 404}))"
        " : ask(path, request); })()"
    )
    page.click("#next")
    page.until(f"location.hash === '#{ranker.examples['users'][1]['id']}'")
    assert page.texts(ORDER) == ranked(ranker, ranker.examples["users"][1])
    assert page.js("document.querySelector('#state').hidden")


def test_a_refused_item_says_why(browser, address, tmp_path):
    page = browser.page(width=1280, height=900)
    page.go(address)
    page.until(SHOWN)
    page.click("#add")
    page.click("#adding [type=submit]")
    page.until("document.querySelector('#adding .problem').textContent === 'Give the item a name.'")
    page.click("#name")
    page.type("broken")
    page.click("#adding details summary")
    for row, why in (
        ("[1, 2", "The feature row is no JSON"),
        ("7", "no array of numbers"),
        ("[1, 2]", "features of 'image' have shape (2,); give 37 numbers"),
        ('["<img src=x onerror=alert(1)>"]', "features.image.0: Input should be a valid number"),
    ):
        page.js("document.querySelector('#row').value = ''")
        page.click("#row")
        page.type(row)
        page.click("#adding [type=submit]")
        said = "document.querySelector('#adding .problem').textContent"
        page.until(f"{said}.includes({why!r})")
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(b"\xff\xd8\xff")
    page.js("document.querySelector('#row').value = ''")
    page.choose_file("#file", photo)
    page.click("#adding [type=submit]")
    page.until(f"{said}.includes('no image encoder')")
    assert page.js("document.querySelector('#adding').open")
    page.press("Escape")
    assert not page.js("document.querySelector('#adding').open")
    assert "broken" not in page.texts(ORDER)


# ---- Keyboard, finger, screen


def test_everything_is_done_by_keyboard(page, ranker):
    user = user_of(ranker, page)
    order = ranked(ranker, user)
    page.press("Tab")
    assert page.js("document.activeElement.className") == "skip"
    page.press("Enter")
    assert focused(page) == order[0]
    across = page.js(
        "getComputedStyle(document.querySelector('#candidates'))"
        ".gridTemplateColumns.split(' ').length"
    )
    for key, place in (
        ("ArrowRight", 1), ("ArrowDown", 1 + across), ("ArrowUp", 1), ("ArrowLeft", 0),
        ("ArrowLeft", 0), ("End", len(order) - 1), ("ArrowRight", len(order) - 1), ("Home", 0),
        ("ArrowRight", 1),
    ):  # fmt: skip
        page.press(key)
        assert focused(page) == order[place], key
        assert f"Item {order[place]}, rank {1 + place}: weights" in page.text("#about")
    assert page.js("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert page.js("document.querySelectorAll('.candidate[tabindex=\"0\"]').length") == 1
    page.until("document.querySelector('#live').textContent.startsWith('Strongest attention to')")
    # Back to what it is ranked with; the arrow keys choose there too.
    _tab_to(page, "mode")
    page.press("ArrowRight")
    assert page.texts(ORDER) == ranked(ranker, user, images=False)
    page.until("document.querySelector('#live').textContent.startsWith('Images off; clicked')")
    # The form opens, takes a name, and closes; the focus comes back.
    page.js("document.querySelector('#add').focus()")
    page.press("Enter")
    page.type("typed")
    assert page.js("document.activeElement.value") == "typed"
    page.press("Escape")
    assert page.js("document.activeElement.id") == "add"


def _tab_to(page: Page, name: str) -> None:
    """Goes backwards until a field has the focus, as Shift and Tab do."""
    for _ in range(30):
        code = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9, "modifiers": 8}
        page.ask("Input.dispatchKeyEvent", type="keyDown", **code)
        page.ask("Input.dispatchKeyEvent", type="keyUp", **code)
        if page.js("document.activeElement.name") == name:
            return
    pytest.fail(f"no way to {name} by keyboard")


def test_what_is_seen_has_a_name_for_screen_readers(page):
    page.ask("Accessibility.enable")
    nodes = page.ask("Accessibility.getFullAXTree")["nodes"]
    wanted = {"button", "combobox", "textbox", "radio", "option", "listbox", "radiogroup"}
    found = [node for node in nodes if node.get("role", {}).get("value") in wanted]
    assert wanted - {"textbox", "radiogroup"} <= {node["role"]["value"] for node in found}
    assert [node["role"] for node in found if not node["name"].get("value")] == []
    best = next(node for node in found if node["role"]["value"] == "option" and node["parentId"])
    names = [node["name"]["value"] for node in found if node["role"]["value"] == "option"]
    assert any(re.match(r"Rank 1, item \d+, \d+\.\d %", name) for name in names), best


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_no_width_scrolls_sideways(browser, address, width):
    page = browser.page(width=width, height=844, touch=width < 800)
    page.go(address)
    page.until(SHOWN)
    page.js("document.querySelector('#card').open = true")
    page.until("document.querySelector('#card pre').textContent.includes('## Models')")
    assert page.js("document.documentElement.scrollWidth") == width
    page.js("document.querySelector('#add').click()")
    for selector in ("#adding", "#explorer", "#behaviors", "#candidates"):
        box = page.js(
            f"(() => {{ const r = document.querySelector('{selector}').getBoundingClientRect();"
            " return [r.left, r.right]; })()"
        )
        assert 0 <= box[0] <= box[1] <= width, selector
    assert page.errors == []


def test_a_finger_chooses_and_still_sees_the_past(browser, address, ranker):
    page = browser.page(width=390, height=844, touch=True)
    page.go(address)
    page.until(SHOWN)
    order = ranked(ranker, user_of(ranker, page))
    page.tap(".candidate:nth-child(9)")
    page.until(f"document.querySelector('#about').textContent.includes('Item {order[8]},')")
    # One column: the past stays above while candidates scroll below it.
    past = page.js("document.querySelector('.past').getBoundingClientRect().toJSON()")
    card = page.js("document.querySelectorAll('.candidate')[8].getBoundingClientRect().toJSON()")
    assert past["top"] == 0
    assert past["bottom"] < card["bottom"] < 844
    assert past["bottom"] < 844 / 2


@pytest.mark.parametrize("dark", [False, True])
def test_texts_stand_out(browser, address, dark):
    """WCAG AA, 4.5 : 1, of everything that is written on a plain ground."""
    page = browser.page(width=1280, height=900, dark=dark)
    page.go(address)
    page.until(SHOWN)
    found = page.js(_CONTRASTS)
    assert len(found) > 40
    assert [text for text, contrast in found if contrast < 4.5] == []
    lightness = page.js("getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", lightness)[0]) < 128) == dark


_CONTRASTS = """(() => {
  const rgb = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => {
    const [r, g, b] = rgb(color).slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = getComputedStyle(element).backgroundColor;
      if (rgb(color)[3] !== 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  return [...document.querySelectorAll("body *")]
    .filter((e) => e.checkVisibility() && !e.closest(".unseen, .skip, :disabled, .photo")
      && [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()))
    .map((e) => {
      const [a, b] = [luminance(getComputedStyle(e).color), luminance(ground(e))];
      return [e.textContent.trim(), (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    });
})()"""


# ---- Safety


def test_no_request_leaves_the_host(page, address):
    page.click("[value=off]")
    page.js("document.querySelector('#card').open = true")
    page.until("document.querySelector('#card pre').textContent.includes('## Models')")
    assert len(page.requests) > 20
    assert [url for url in page.requests if not url.startswith(f"{address}/")] == []


def test_the_page_may_load_nothing_else(address):
    for path in explorer.PATHS:
        with urllib.request.urlopen(address + path) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'self'; img-src 'self' blob:;")
            assert "unsafe" not in policy
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert b"http://" not in answer.read().replace(b"http://www.w3.org/2000/svg", b"")


def test_names_are_text_and_never_markup(page, ranker, twin):
    evil = "<img src=x onerror=document.title='evil'>/../?#&"
    page.js("document.querySelector('#add').click()")
    page.type(evil)
    page.js(
        "document.querySelector('#row').value ="
        f" JSON.stringify({json.dumps(twin['features']['image'])})"
    )
    page.js("document.querySelector('#adding [type=submit]').click()")
    page.until("!document.querySelector('#adding').open")
    assert evil in page.texts(ORDER)
    assert page.js("document.querySelectorAll('.name img, #about img').length") == 0
    assert evil in page.text("#about")
    assert page.js("document.title") == "Explorer · dicm_jax"


def test_a_token_is_asked_for(servable, ranker, browser):
    with served(servable, ranker, token="secret") as address:
        page = browser.page(width=1280, height=900)
        page.go(address)
        page.until("document.querySelector('#token')?.checkVisibility()")
        page.type("wrong")
        page.press("Enter")
        page.until("document.querySelector('#token .problem').textContent.includes('refused')")
        page.type("secret")
        page.press("Enter")
        page.until(SHOWN)
        page.until("[...document.images].some(i => i.src.startsWith('blob:') && i.naturalWidth)")
        assert page.texts(ORDER) == ranked(ranker, user_of(ranker, page))
        # Kept in this tab, and nowhere else.
        assert page.js("sessionStorage.dicm_token") == "secret"
        assert page.js("document.cookie + JSON.stringify(localStorage)") == "{}"
        assert not any("secret" in url for url in page.requests)


# ---- States


def test_it_waits_while_the_service_loads(servable, ranker, browser):
    loaded = threading.Event()

    def slowly(folder):
        loaded.wait(20)
        return ranker

    with served(servable, ranker, slowly) as address:
        page = browser.page(width=390, height=844)
        page.go(address)
        words = "document.querySelector('#state p')?.textContent"
        page.until(f"{words} === 'The service is loading its model.'")
        loaded.set()
        page.until(SHOWN)
        assert page.js("document.querySelector('#state').hidden")


def test_a_service_that_is_gone_can_be_asked_again(servable, ranker, browser):
    page = browser.page(width=390, height=844)
    with served(servable, ranker) as address:
        page.go(address)
        page.until(SHOWN)
    page.click("#next")
    page.until("document.querySelector('#state p').textContent.includes('does not answer')")
    assert page.js("document.querySelector('#state button').checkVisibility()")


class _Pooling(Ranker):
    """Like a model that pools behaviors without attention."""

    def attention(self, query, **how):
        return {}


def test_a_model_without_attention_says_so(servable, browser):
    pooling = _Pooling(servable, room=0, buckets=(Bucket(1, 32),))
    with served(servable, pooling) as address:
        page = browser.page(width=1280, height=900)
        page.go(address)
        page.until(SHOWN)
        assert "pools the clicks without attention" in page.text("#about")
        assert page.js("document.querySelectorAll('.lit').length") == 0
        assert not page.js("document.querySelector('#queries').checkVisibility()")
        page.hover(".candidate:nth-child(3)")
        assert page.errors == []


def test_of_many_clicks_the_mean_rank_is_shown(servable, ranker, browser, monkeypatch):
    users = [
        user | {"clicked": [True] * len(user["candidates"])} for user in ranker.examples["users"]
    ]
    monkeypatch.setattr(Ranker, "examples", ranker.examples | {"users": users})
    with served(servable, ranker) as address:
        page = browser.page(width=1280, height=900)
        page.go(address)
        page.until(SHOWN)
        assert set(page.texts(".modes small")) == {"24 clicked: mean rank 12.5"}


@pytest.mark.parametrize(
    ("change", "words"),
    [({"users": []}, "was exported without users to look at"), ({"photos": {}}, "no photo")],
)
def test_what_was_not_exported_is_said(servable, ranker, browser, monkeypatch, change, words):
    monkeypatch.setattr(Ranker, "examples", ranker.examples | change)
    with served(servable, ranker) as address:
        page = browser.page(width=1280, height=900)
        page.go(address)
        page.until(f"document.body?.innerText.includes({words!r})")
        assert page.errors == []
