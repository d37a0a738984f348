// Requests to the service: with a token where one is needed, patiently while it is not ready.

const TOKEN = "dicm_token";
const RETRIES = 5;

/** An answer that says why there is none. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Service {
  /**
   * @param {(refused: boolean) => Promise<string>} askToken asks a person for the token.
   * @param {(words: string) => void} waits says what is being waited for.
   */
  constructor(askToken, waits) {
    this.askToken = askToken;
    this.waits = waits;
    this.asking = null;
    this.urls = new Map();
  }

  get token() {
    return sessionStorage.getItem(TOKEN);
  }

  /** The answer to a GET, as an object. */
  async get(path) {
    return (await this.ask(path)).json();
  }

  /** The answer to a GET, as it is. */
  async text(path) {
    return (await this.ask(path)).text();
  }

  /** The answer to a POST, as an object. */
  async post(path, body) {
    const headers = { "Content-Type": "application/json" };
    return (await this.ask(path, { method: "POST", headers, body: JSON.stringify(body) })).json();
  }

  /** The address of an item's photo. An <img> cannot bear a token, so it may be one of a copy. */
  async photo(item) {
    const path = `/v1/photos/${encodeURIComponent(item)}`;
    if (!this.token) return path;
    if (!this.urls.has(item)) {
      const copied = this.ask(path).then((answer) => answer.blob()).then(URL.createObjectURL);
      this.urls.set(item, copied);
    }
    return this.urls.get(item);
  }

  /** An answer, after as many attempts as it takes. */
  async ask(path, request = {}) {
    for (let attempt = 0; ; ) {
      const sent = this.token;
      const answer = await this.once(path, request, sent);
      if (answer.ok) return answer;
      if (answer.status === 401) {
        await this.newToken(sent);
        continue;
      }
      const error = await reason(answer);
      const loading = answer.status === 503 && request.method !== "POST";
      const busy = answer.status === 429 || answer.status === 503;
      if (!loading && (!busy || ++attempt > RETRIES)) throw error;
      this.waits(loading ? "The service is loading its model." : "The service is busy.");
      const seconds = Number(answer.headers.get("Retry-After")) || 1;
      await new Promise((done) => setTimeout(done, 1000 * seconds));
    }
  }

  async once(path, request, token) {
    const headers = { ...request.headers };
    if (token) headers.Authorization = `Bearer ${token}`;
    try {
      return await fetch(path, { ...request, headers });
    } catch {
      throw new Refused(0, "The service does not answer. Is it still running?");
    }
  }

  /** Waits for another token than the one that was refused; many requests ask only once. */
  async newToken(refused) {
    if (this.token !== refused) return;
    this.asking ??= this.askToken(refused !== null).then((token) => {
      sessionStorage.setItem(TOKEN, token);
      this.asking = null;
    });
    await this.asking;
  }
}

async function reason(answer) {
  let words = `the service answered ${answer.status}`;
  try {
    words = (await answer.json()).error ?? words;
  } catch {
    // Not one of its own answers: the status has to do.
  }
  return new Refused(answer.status, words);
}
