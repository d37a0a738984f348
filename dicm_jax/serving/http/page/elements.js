// Elements of the page. Whatever comes from the service is set as text, never as markup.

/** An element with properties, attributes (those with a dash, and role) and children. */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** A photo, or words where there is none. `url` is its address, a promise of it, or null. */
export function picture(url, words = "no photo") {
  const tile = el("span", { className: "photo", "aria-hidden": "true" });
  const none = () => tile.replaceChildren(el("span", { className: "none" }, words));
  if (url === null) {
    none();
    return tile;
  }
  const image = el("img", { alt: "", draggable: false, onerror: none });
  tile.append(image);
  Promise.resolve(url).then((address) => (image.src = address), none);
  return tile;
}

/** One choice of several, as a labelled radio button. */
export function choice(group, value, checked, chosen, ...label) {
  const input = el("input", { type: "radio", name: group, value, checked });
  input.addEventListener("change", () => chosen(value));
  return el("label", { className: "choice" }, input, el("span", {}, ...label));
}

/** Moves elements into an order, and lets them be seen moving there. */
export function reorder(list, elements) {
  const before = new Map([...list.children].map((child) => [child, child.getBoundingClientRect()]));
  const focused = document.activeElement;
  list.replaceChildren(...elements);
  if (elements.includes(focused)) focused.focus({ preventScroll: true });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const child of elements) {
    if (!before.has(child)) continue;
    const from = before.get(child);
    const to = child.getBoundingClientRect();
    const [x, y] = [from.left - to.left, from.top - to.top];
    if (!x && !y) continue;
    child.animate(
      [{ transform: `translate(${x}px, ${y}px)` }, { transform: "none" }],
      { duration: 420, easing: "cubic-bezier(.2, .7, .2, 1)" },
    );
  }
}

/** Shows words in an element, or hides it for none. */
export function say(element, words) {
  element.textContent = words ?? "";
  element.hidden = !words;
}
