// A WebSocket that comes back. The same interface and events as `WebSocket`, with what a page needs to live behind proxies:
//
//   const socket = new LastingWebSocket("/ws/chat", [], { heartbeat: "Heartbeat" });
//   socket.onopen = () => socket.send("こんにちは");      // text as it is: no encodeURIComponent
//
// - Leaving the page closes the socket at once, and returning to it by the back button opens it again.
// - When the socket ends it is opened again, after pauses that grow from half a second to half a minute and are of random
//   length, so that not all pages come back to a restarted worker in the same moment. `close` is told for each end and `open`
//   for each beginning; meanwhile readyState is CONNECTING, and `send` throws as it does then: what was not sent is the page's.
//   It stays closed after `close()`, and after the codes 1000, 1008 and 4000 to 4999, which are the app's own word.
// - Browsers show neither ping nor pong. With `heartbeat` a line over which nothing came for `every` milliseconds (20000) is asked by
//   that text; if still nothing comes within `patience` (10000) it is dead. The worker answers it without its app:
//   heartbeat_text = { receive = "Heartbeat", answer = "Heartbeat" }. The page does not see the answer.
// Nothing here is needed: plain `new WebSocket(url)` works with every route.
(() => {
  "use strict";
  const CONNECTING = 0, OPEN = 1, CLOSED = 3;
  const FIRST_PAUSE = 500, LONGEST_PAUSE = 30000;
  const SETTLED = 10000, CONNECT_WITHIN = 20000; // An end after so long is the first one again; a line can be dead from the beginning.
  const DEFAULTS = { heartbeat: null, every: 20000, patience: 10000 };
  const isFinal = (code) => code === 1000 || code === 1008 || code >= 4000;

  class LastingWebSocket extends EventTarget {
    #url; #protocols; #options; #window = new AbortController();
    #socket = null; #kind = "blob"; #timer = 0; #deadline = 0; #failures = 0; #openedAt = 0;
    // Nothing is opened any more; the page is not shown; a heartbeat's answer is to come.
    #over = false; #away = false; #asked = false;

    constructor(url, protocols = [], options = {}) {
      super();
      this.#url = new URL(url, location.href).href.replace(/^http/, "ws");
      this.#protocols = protocols;
      this.#options = { ...DEFAULTS, ...options };
      this.#open(); // Throws what WebSocket throws.
      const { signal } = this.#window;
      addEventListener("pagehide", () => this.#leave(), { signal });
      addEventListener("pageshow", () => this.#away && this.#return(), { signal });
      addEventListener("online", () => !this.#socket && !this.#away && this.#return(), { signal });
    }

    get url() { return this.#url; }
    get protocol() { return this.#socket?.protocol ?? ""; }
    get extensions() { return this.#socket?.extensions ?? ""; }
    get bufferedAmount() { return this.#socket?.bufferedAmount ?? 0; }
    get binaryType() { return this.#kind; }
    set binaryType(kind) { if (this.#socket) this.#socket.binaryType = kind; this.#kind = kind; }
    get readyState() {
      if (this.#over) return this.#socket?.readyState ?? CLOSED;
      return this.#socket?.readyState === OPEN ? OPEN : CONNECTING;
    }

    send(data) {
      if (this.#over) return; // As a closed WebSocket does.
      if (this.readyState !== OPEN) throw new DOMException("The socket is not open.", "InvalidStateError");
      this.#socket.send(data);
    }

    close(...codeAndReason) {
      if (this.#over) return;
      if (this.#socket) this.#socket.close(...codeAndReason); // First, since it may throw.
      this.#finish();
      if (!this.#socket) queueMicrotask(() => this.#tellClose(1006, "", false));
    }

    #open() {
      this.#stop();
      const socket = new WebSocket(this.#url, this.#protocols);
      const mine = (act) => (event) => { if (this.#socket === socket) act(event); };
      this.#socket = socket;
      this.#asked = false;
      this.#openedAt = Infinity;
      socket.binaryType = this.#kind;
      this.#deadline = setTimeout(() => this.#lose(1006, "no answer", false), CONNECT_WITHIN);
      socket.onopen = mine(() => {
        this.#openedAt = Date.now();
        this.#listen();
        this.dispatchEvent(new Event("open"));
      });
      socket.onmessage = mine(({ data, origin }) => {
        this.#listen();
        if (this.#asked && data === this.#options.heartbeat) this.#asked = false;
        else this.dispatchEvent(new MessageEvent("message", { data, origin }));
      });
      socket.onerror = mine(() => this.dispatchEvent(new Event("error")));
      socket.onclose = mine((event) => this.#ended(event.code, event.reason, event.wasClean));
    }
    // Something was heard: the line is alive for a while.
    #listen() {
      this.#stop();
      const { heartbeat, every, patience } = this.#options;
      if (!heartbeat || this.#over) return;
      this.#timer = setTimeout(() => {
        this.#asked = true;
        this.#socket.send(heartbeat);
        this.#deadline = setTimeout(() => this.#lose(1006, "no heartbeat", false), patience);
      }, every);
    }
    // The line is dead. The browser would wait for the peer's goodbye; we do not.
    #lose(code, reason, wasClean) {
      this.#socket.close();
      this.#ended(code, reason, wasClean);
    }

    #ended(code, reason, wasClean) {
      this.#stop();
      this.#socket = null;
      this.#failures = Date.now() - this.#openedAt > SETTLED ? 1 : this.#failures + 1;
      if (isFinal(code)) this.#finish();
      const pause = Math.min(FIRST_PAUSE * 2 ** (this.#failures - 1), LONGEST_PAUSE);
      const open = () => this.#open();
      if (!this.#over && !this.#away) this.#timer = setTimeout(open, pause / 2 + (Math.random() * pause) / 2);
      this.#tellClose(code, reason, wasClean);
    }

    #leave() {
      this.#away = true;
      this.#stop();
      if (this.#socket) this.#lose(1001, "page left", true);
    }
    #return() {
      this.#away = false;
      this.#failures = 0;
      this.#open();
    }
    #finish() {
      this.#over = true;
      this.#stop();
      this.#window.abort(); // No listener is left on the window.
    }
    #stop() { [this.#timer, this.#deadline].forEach(clearTimeout); }
    #tellClose(code, reason, wasClean) {
      this.dispatchEvent(new CloseEvent("close", { code, reason, wasClean }));
    }
  }

  ["CONNECTING", "OPEN", "CLOSING", "CLOSED"].forEach((name, value) => {
    for (const place of [LastingWebSocket, LastingWebSocket.prototype]) Object.defineProperty(place, name, { value });
  });
  for (const type of ["open", "message", "error", "close"]) {
    const handlers = new WeakMap(); // One handler a socket, in its place among the listeners.
    const get = function () { return handlers.get(this) ?? null; };
    const set = function (handler) {
      this.removeEventListener(type, get.call(this));
      handlers.set(this, typeof handler === "function" ? handler : null);
      this.addEventListener(type, get.call(this));
    };
    Object.defineProperty(LastingWebSocket.prototype, `on${type}`, { get, set });
  }
  globalThis.LastingWebSocket = LastingWebSocket;
})();
