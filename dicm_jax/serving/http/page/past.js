// What a user clicked before, and what each click counts for the candidate that is looked at.

import { choice, el, picture } from "./elements.js";

const ASKED_BY = { image: "its photo", ids: "its ID fields" };

export class Past {
  /**
   * @param {Record<string, HTMLElement>} parts of the page, by id.
   * @param {() => void} asksAgain is told when another query has been chosen.
   */
  constructor(parts, asksAgain) {
    this.parts = parts;
    this.asksAgain = asksAgain;
    this.tiles = [];
    this.weights = {};
    this.query = null;
  }

  /** Other behaviors, with the weights of all candidates by query: `{"image/image": [[…], …]}`. */
  fill(items, weights, url) {
    this.weights = weights;
    const queries = Object.keys(weights);
    if (!queries.includes(this.query)) this.query = queries[0] ?? null;
    this.tiles = items.map((item) =>
      el(
        "li",
        { className: "behavior", title: item },
        el("span", { className: "bars", "aria-hidden": "true" }, ...queries.map(bar)),
        picture(url(item)),
      ),
    );
    this.items = items;
    this.parts.behaviors.replaceChildren(...this.tiles);
    this.choices(queries);
  }

  choices(queries) {
    const chosen = (query) => {
      this.query = query;
      this.asksAgain();
    };
    const [legend] = this.parts.queries.children;
    const buttons = queries.map((query, number) =>
      choice("query", query, query === this.query, chosen, key(number), `by ${askedBy(query)}`),
    );
    this.parts.queries.replaceChildren(legend, ...buttons);
  }

  /** Lights what drew the attention for a candidate; null: nothing is known of it. */
  light(number) {
    const dark = number === null || this.query === null;
    this.parts.behaviors.classList.toggle("lit", !dark);
    this.parts.queries.hidden = this.parts.scale.hidden = dark;
    const strongest = dark ? [] : this.strongest(number);
    this.tiles.forEach((tile, place) => {
      const said = dark ? [] : this.draw(tile, number, place);
      tile.classList.toggle("strongest", strongest.includes(place));
      const words = [`item ${this.items[place]}`, ...said].join(", ");
      tile.setAttribute("aria-label", words);
      tile.title = words;
    });
    return strongest.map((place) => this.items[place]);
  }

  draw(tile, number, place) {
    const strengths = this.weights[this.query][number].map(Math.abs);
    const [low, high] = [Math.min(...strengths), Math.max(...strengths)];
    const light = high > low ? (strengths[place] - low) / (high - low) : 1;
    tile.style.setProperty("--light", light.toFixed(3));
    return Object.entries(this.weights).map(([query, rows], index) => {
      const weight = rows[number][place];
      const most = Math.max(...rows[number].map(Math.abs));
      const drawn = tile.querySelector(".bars").children[index];
      drawn.style.setProperty("--share", most ? Math.abs(weight) / most : 0);
      drawn.classList.toggle("negative", weight < 0);
      drawn.classList.toggle("leading", query === this.query);
      return `${askedBy(query)} ${weight.toFixed(3)}`;
    });
  }

  /** The smallest and the largest weight for a candidate, in words. */
  range(number) {
    const weights = this.weights[this.query][number];
    const [low, high] = [Math.min(...weights), Math.max(...weights)];
    return `weights ${low.toFixed(3)} to ${high.toFixed(3)}`;
  }

  /** Places of the three behaviors of the largest weights. */
  strongest(number) {
    const strengths = this.weights[this.query][number].map(Math.abs);
    const places = [...strengths.keys()].sort((one, other) => strengths[other] - strengths[one]);
    return places.slice(0, 3);
  }
}

function bar(_, number) {
  return el("span", { className: `bar q${number % 4}` });
}

function key(number) {
  return el("span", { className: `key q${number % 4}`, "aria-hidden": "true" });
}

/** A query in words: of `"text/ids"`, `text` is what is looked at, and `ids` asks. */
function askedBy(query) {
  const at = query.lastIndexOf("/");
  const content = query.slice(0, Math.max(0, at));
  const by = query.slice(at + 1);
  return (ASKED_BY[by] ?? by) + (content && content !== "image" ? `, to ${content}` : "");
}
