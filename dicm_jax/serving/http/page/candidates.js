// The ranked candidates: a list that the arrow keys go through.

import { el, picture, reorder } from "./elements.js";

export class Candidates {
  /**
   * @param {HTMLElement} list
   * @param {(number: number | null) => void} looksAt is told which candidate is looked at; null:
   *   none but the chosen one.
   * @param {(number: number) => void} chooses is told which candidate is chosen.
   */
  constructor(list, looksAt, chooses) {
    this.list = list;
    this.chooses = chooses;
    this.cards = [];
    this.order = [];
    list.addEventListener("keydown", (event) => this.key(event));
    list.addEventListener("pointerleave", () => looksAt(null));
    this.looksAt = looksAt;
  }

  /** Other candidates: `{item, mark, url, instead}` each. */
  fill(candidates) {
    this.cards = candidates.map((candidate, number) => this.card(candidate, number));
    this.order = [];
    this.list.replaceChildren();
  }

  card(candidate, number) {
    const card = el(
      "li",
      { className: `candidate ${candidate.mark}`, role: "option", "aria-selected": "false" },
      picture(candidate.url, candidate.instead),
      el("span", { className: "rank" }),
      el("span", { className: "moved" }),
      el("span", { className: "score" }),
      el(
        "span",
        { className: "foot" },
        el("span", { className: "name", title: candidate.item }, candidate.item),
        el("span", { className: `mark ${candidate.mark}` }, candidate.mark),
      ),
    );
    card.dataset.item = candidate.item;
    card.addEventListener("focus", () => this.chooses(number));
    card.addEventListener("click", () => card.focus());
    card.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse") this.looksAt(number);
    });
    return card;
  }

  /** Puts candidates in the order of an answer, with their places in another one beside. */
  rank(answer, compared, words) {
    const places = placesOf(answer);
    const placesBefore = compared && placesOf(compared);
    this.order = answer.ranking;
    for (const [number, card] of this.cards.entries()) {
      const place = places[number];
      const moved = placesBefore ? placesBefore[number] - place : 0;
      const score = `${(100 * answer.scores[number]).toFixed(1)} %`;
      part(card, "rank").textContent = place;
      part(card, "score").textContent = score;
      part(card, "moved").textContent = placesBefore ? arrow(moved) : "";
      part(card, "moved").className = `moved ${moved > 0 ? "up" : moved < 0 ? "down" : "same"}`;
      const mark = part(card, "mark").textContent;
      const said = [`Rank ${place}`, `item ${card.dataset.item}`, score, mark];
      if (placesBefore) said.push(`${direction(moved)} ${words}`);
      card.setAttribute("aria-label", said.filter(Boolean).join(", "));
    }
    reorder(this.list, this.order.map((number) => this.cards[number]));
  }

  /** Marks the chosen candidate: it is where the keyboard comes in. */
  choose(chosen) {
    for (const [number, card] of this.cards.entries()) {
      card.setAttribute("aria-selected", String(number === chosen));
      card.tabIndex = number === chosen ? 0 : -1;
    }
  }

  key(event) {
    const at = this.order.indexOf(this.cards.indexOf(document.activeElement));
    const across = getComputedStyle(this.list).gridTemplateColumns.split(" ").length;
    const last = this.order.length - 1;
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across };
    const to = { Home: 0, End: last }[event.key] ?? at + steps[event.key];
    if (at < 0 || Number.isNaN(to)) return;
    event.preventDefault();
    if (to >= 0 && to <= last) this.cards[this.order[to]].focus();
  }
}

/** Places of candidates by their number, the best first. */
export function placesOf(answer) {
  const places = [];
  answer.ranking.forEach((number, place) => (places[number] = place + 1));
  return places;
}

function part(card, name) {
  return card.querySelector(`.${name}`);
}

function arrow(moved) {
  return moved > 0 ? `▲ ${moved}` : moved < 0 ? `▼ ${-moved}` : "=";
}

function direction(moved) {
  const places = `${Math.abs(moved)} place${Math.abs(moved) === 1 ? "" : "s"}`;
  return moved > 0 ? `up ${places}` : moved < 0 ? `down ${places}` : "in the same place";
}
