// The page: a user is picked, candidates are ranked, and what drew the attention is lit.

import { Adding } from "./adding.js";
import { Candidates, placesOf } from "./candidates.js";
import { choice, el, say } from "./elements.js";
import { Past } from "./past.js";
import { Service } from "./service.js";

const ARROWS = "Arrows count the places won and lost against images on.";
const MODES = {
  images: {
    title: "Images on",
    asks: { explain: true },
    meaning: "The model sees the photos of the candidates and of the past.",
  },
  off: {
    title: "Images off",
    asks: { images: false },
    words: "with images off",
    meaning: `The same model, asked as if no item had a photo. ${ARROWS}`,
  },
  baseline: {
    title: "Baseline",
    asks: { model: "baseline" },
    words: "in the baseline",
    meaning: `The same network, trained without images. ${ARROWS}`,
  },
};

const LISTED = 5; // ranks, at most; of more the mean is shown

const parts = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map((element) => [element.id, element]),
);
const service = new Service(askToken, waitFor);
const past = new Past(parts, () => lookAt(null));
const candidates = new Candidates(parts.candidates, lookAt, choose);
const adding = new Adding(parts.adding, add);

/** All that is known now. `added` are items of this visit, candidates of every user. */
const now = { model: null, user: null, items: [], answers: {}, mode: "images", chosen: 0, added: [] };

// ---- Loading

async function start() {
  try {
    waitFor("Loading.");
    now.model = await service.get("/v1/model");
    const { users } = await service.get("/v1/users");
    showModel();
    if (!now.model.models.dicm || now.model.models.dicm.stage !== "rank") {
      stop("This servable has no model that ranks, so there is no ranking to look at.");
    } else if (!users.length) {
      stop("This servable was exported without users to look at: export it with --examples=24.");
    } else {
      fillUsers(users);
      await pick(wished(users));
    }
  } catch (error) {
    stop(error.message, start);
  }
}

function showModel() {
  const { log, version, items } = now.model;
  parts.served.textContent = `dicm_jax · ${log} · ${version} · ${items.toLocaleString("en")} items`;
}

function fillUsers(users) {
  const options = users.map((user) =>
    el("option", { value: user.id }, `User ${user.user} · ${user.behaviors} clicks`),
  );
  parts.users.replaceChildren(...options);
}

/** The user that the address names, or the first one. */
function wished(users) {
  const id = decodeURIComponent(location.hash.slice(1));
  return users.some((user) => user.id === id) ? id : users[0].id;
}

async function pick(id) {
  parts.users.value = id;
  const at = parts.users.selectedIndex;
  parts.previous.disabled = at <= 0;
  parts.next.disabled = at >= parts.users.length - 1;
  parts.explorer.setAttribute("aria-busy", "true");
  try {
    const user = await service.get(`/v1/users/${encodeURIComponent(id)}`);
    if (parts.users.value !== id) return; // another one has been picked meanwhile
    now.user = user;
    await rank();
    history.replaceState(null, "", `#${encodeURIComponent(id)}`);
  } catch (error) {
    stop(error.message, () => pick(id));
  } finally {
    parts.explorer.removeAttribute("aria-busy");
  }
}

/** Asks for all rankings of the user, and shows them; chooses the best candidate, or `item`. */
async function rank(item = null) {
  const { user } = now;
  const items = candidatesOf(user);
  const names = items.map((candidate) => candidate.item);
  const modes = Object.keys(MODES).filter((mode) => mode !== "baseline" || now.model.models.baseline);
  const asked = { user: { id: user.id }, candidates: names };
  let answers;
  try {
    answers = await Promise.all(
      modes.map((mode) => service.post("/v1/rank", { ...asked, ...MODES[mode].asks })),
    );
  } catch (error) {
    if (error.status !== 404 || !now.added.length) throw error;
    now.added = []; // the service has been started again, and knows them no more
    return rank();
  }
  if (now.user !== user) return;
  now.items = items;
  now.answers = Object.fromEntries(modes.map((mode, number) => [mode, answers[number]]));
  now.model.version = answers[0].version;
  showUser(modes);
  now.chosen = item === null ? now.answers[now.mode].ranking[0] : names.indexOf(item);
  showRanking();
}

function candidatesOf(user) {
  const pictured = new Set(user.pictured);
  const url = (item) => (pictured.has(item) ? service.photo(item) : null);
  const marks = { true: "clicked", false: "shown", null: "" };
  const shown = user.candidates.map((item, number) => ({
    item,
    mark: marks[user.clicked[number]],
    url: url(item),
  }));
  const known = new Set(user.candidates);
  const more = now.added.filter(({ item }) => !known.has(item));
  return [...shown, ...more];
}

// ---- Showing

function showUser(modes) {
  const { user, answers, items } = now;
  const pictured = new Set(user.pictured);
  const seen = answers.images.behaviors;
  parts.explorer.hidden = false;
  parts.state.hidden = true;
  showModel();
  const fields = Object.entries(user.fields);
  parts.fields.textContent = fields.map(([name, key]) => `${name.replaceAll("_", " ")} ${key}`).join(" · ");
  parts["past-count"].textContent = seen.length ? `${seen.length} items, oldest first` : "";
  parts["ranking-count"].textContent = `${items.length} items`;
  candidates.fill(items);
  past.fill(seen, answers.images.attention ?? {}, (item) =>
    pictured.has(item) ? service.photo(item) : null,
  );
  showModes(modes);
}

function showModes(modes) {
  const [legend] = parts.modes.children;
  const buttons = modes.map((mode) =>
    choice("mode", mode, mode === now.mode, switchTo, MODES[mode].title, clicksOf(mode)),
  );
  parts.modes.replaceChildren(legend, ...buttons);
}

/** Where the clicked items stand, as a small line. */
function clicksOf(mode) {
  const places = placesOf(now.answers[mode]);
  const clicked = places.filter((_, number) => now.items[number].mark === "clicked");
  clicked.sort((one, other) => one - other);
  const mean = clicked.reduce((sum, place) => sum + place, 0) / clicked.length;
  const words = !clicked.length
    ? "nothing clicked"
    : clicked.length <= LISTED
      ? `clicked: rank ${clicked.join(", ")}`
      : `${clicked.length} clicked: mean rank ${mean.toFixed(1)}`;
  return el("small", {}, words);
}

function showRanking() {
  const compared = now.mode === "images" ? null : now.answers.images;
  candidates.rank(now.answers[now.mode], compared, MODES[now.mode].words);
  candidates.choose(now.chosen);
  parts.meaning.textContent = MODES[now.mode].meaning;
  document.body.dataset.mode = now.mode;
  lookAt(null);
}

function switchTo(mode) {
  now.mode = mode;
  showRanking();
  const clicked = parts.modes.querySelector(`[value=${mode}] + span small`).textContent;
  announce(`${MODES[mode].title}; ${clicked}.`);
}

function choose(number) {
  now.chosen = number;
  candidates.choose(number);
  const strongest = lookAt(null);
  if (strongest.length) announce(`Strongest attention to items ${strongest.join(", ")}.`);
}

/** Lights the past for a candidate; null: for the chosen one. */
function lookAt(number) {
  const candidate = number ?? now.chosen;
  const { item } = now.items[candidate];
  const seen = now.answers.images.behaviors.length;
  const attends = Object.keys(now.answers.images.attention ?? {}).length > 0;
  const known = now.mode === "images" && attends && seen > 0;
  const place = placesOf(now.answers[now.mode])[candidate];
  parts.about.textContent = !seen
    ? "No clicks before: the fields are all that is known."
    : !attends
      ? "This model pools the clicks without attention: all count the same."
      : known
        ? `Item ${item}, rank ${place}: ${past.range(candidate)}`
        : "Attention is shown with images on.";
  return past.light(known ? candidate : null);
}

// ---- States

function waitFor(words) {
  showState(words, true);
}

/** Says why there is nothing more to see, and what can be tried again. */
function stop(words, again = null) {
  showState(words, false);
  const button = parts.state.querySelector("button");
  button.hidden = again === null;
  button.onclick = again;
}

function showState(words, waiting) {
  parts.state.hidden = false;
  parts.state.classList.toggle("waiting", waiting);
  parts.state.querySelector("p").textContent = words;
  parts.state.querySelector("button").hidden = true;
}

let saying = 0;

/** Tells a screen reader, once things have come to rest. */
function announce(words) {
  clearTimeout(saying);
  saying = setTimeout(() => (parts.live.textContent = words), 150);
}

function askToken(refused) {
  const { token, state } = parts;
  state.hidden = true;
  token.hidden = false;
  say(token.querySelector(".problem"), refused ? "That token was refused." : null);
  const field = parts["token-text"];
  field.value = "";
  field.focus();
  return new Promise((given) => {
    token.onsubmit = (event) => {
      event.preventDefault();
      token.hidden = true;
      given(field.value);
    };
  });
}

// ---- Doing

async function add(item, photo) {
  try {
    now.model.items = (await service.post("/v1/items", { items: [item] })).items;
  } finally {
    parts.state.hidden = true; // it may have said that the service is busy
  }
  now.added = now.added.filter((other) => other.item !== item.name);
  const instead = item.features ? "feature row" : "no photo";
  now.added.push({ item: item.name, mark: "new", url: photo, instead });
  await rank(item.name);
  const place = placesOf(now.answers[now.mode])[now.chosen];
  announce(`Added item ${item.name}: rank ${place} of ${now.items.length}.`);
  candidates.cards[now.chosen].scrollIntoView({ block: "nearest" });
}

function step(by) {
  const option = parts.users.options[parts.users.selectedIndex + by];
  if (option) pick(option.value);
}

parts.users.addEventListener("change", () => pick(parts.users.value));
parts.previous.addEventListener("click", () => step(-1));
parts.next.addEventListener("click", () => step(1));
addEventListener("hashchange", () => {
  const id = decodeURIComponent(location.hash.slice(1));
  if (now.user && [...parts.users.options].some(({ value }) => value === id)) pick(id);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names a user, not a place in the page
  candidates.cards[now.chosen]?.focus();
});
parts.add.addEventListener("click", () => adding.open(now.model));
parts.card.addEventListener("toggle", async () => {
  const text = parts.card.querySelector("pre");
  if (parts.card.open && !text.textContent) {
    text.textContent = await service.text("/v1/card").catch((error) => error.message);
  }
});

start();
