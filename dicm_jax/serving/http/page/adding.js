// The form that adds an item: a photo, or its feature row, as the service takes them.

import { el, say } from "./elements.js";

export class Adding {
  /**
   * @param {HTMLDialogElement} dialog
   * @param {(item: object) => Promise<void>} add sends an item; throws why it was refused.
   */
  constructor(dialog, add) {
    this.dialog = dialog;
    this.add = add;
    this.problem = dialog.querySelector(".problem");
    this.form = dialog.querySelector("form");
    this.form.addEventListener("submit", (event) => this.submit(event));
    this.at("cancel").addEventListener("click", () => dialog.close());
  }

  at(id) {
    return this.dialog.querySelector(`#${id}`);
  }

  /** Shows the form, for what the model sees. */
  open(model) {
    const contents = Object.entries(model.contents);
    this.content = contents[0]?.[0] ?? "image";
    const widths = contents.map(([name, of]) => `${of.width.toLocaleString("en")} for ${name}`);
    say(
      this.at("wanted"),
      widths.length
        ? `A feature row is an array of numbers, as python -m dicm_jax.features makes them: ${widths.join(", ")}.`
        : "This model looks at no content: ID fields are all it sees.",
    );
    this.fields(model.fields.filter((field) => field.level === "item"));
    say(this.problem, null);
    this.dialog.showModal();
    this.at("name").focus();
  }

  fields(fields) {
    this.at("ids").hidden = !fields.length;
    if (this.at("ids").querySelector("input")) return;
    const inputs = fields.map((field) =>
      el(
        "label",
        {},
        field.name,
        el("input", { name: field.name, type: "number", min: 0, max: field.size - 1, step: 1 }),
      ),
    );
    this.dialog.querySelector(".ids").replaceChildren(...inputs);
  }

  async submit(event) {
    event.preventDefault();
    const button = this.form.querySelector("[type=submit]");
    button.disabled = true;
    say(this.problem, null);
    try {
      const file = this.at("file").files[0] ?? null;
      const item = await this.item(file);
      const photo = file && !isJson(file) ? URL.createObjectURL(file) : null;
      await this.add(item, photo);
      this.form.reset();
      this.dialog.close();
    } catch (error) {
      say(this.problem, error.message);
    } finally {
      button.disabled = false;
    }
  }

  async item(file) {
    const name = this.at("name").value.trim();
    const fields = {};
    for (const input of this.dialog.querySelectorAll(".ids input")) {
      if (input.value !== "") fields[input.name] = Number(input.value);
    }
    const pasted = this.at("row").value.trim();
    const text = pasted || (file && isJson(file) ? await file.text() : "");
    if (text) return withRow({ name, fields }, text, this.content);
    if (!name) throw new Error("Give the item a name.");
    return file ? { name, fields, photo: await base64(file) } : { name, fields };
  }
}

function isJson(file) {
  return file.type === "application/json" || file.name.endsWith(".json");
}

/** An item with what a JSON text says of it: a row, rows by content, or a whole item. */
function withRow(item, text, content) {
  let read;
  try {
    read = JSON.parse(text);
  } catch (error) {
    throw new Error(`The feature row is no JSON: ${error.message}.`);
  }
  if (Array.isArray(read)) read = { features: { [content]: read } };
  else if (read === null || typeof read !== "object") {
    throw new Error("The feature row is no array of numbers.");
  } else if (!("features" in read)) read = { features: read };
  const made = { ...read, name: item.name || read.name, fields: { ...read.fields, ...item.fields } };
  if (!made.name) throw new Error("Give the item a name.");
  return made;
}

function base64(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => failed(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
}
