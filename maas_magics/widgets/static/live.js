// The live view of a job. Nothing is fetched; the kernel sends whole snapshots and small deltas.
// A packet is: u32 length of a JSON header, the header padded to four bytes, then float32 x and y of every new point.
// chart.js stands before this file in the same module.

const BOUND = 4000; // points of a curve kept on the page
const PATIENCE = 700; // ms without an answer after which Stop interrupts the kernel instead

function unpack(view) {
  const size = view.getUint32(0, true);
  const text = new TextDecoder().decode(new Uint8Array(view.buffer, view.byteOffset + 4, size));
  const head = JSON.parse(text);
  let at = 4 + size + ((4 - (size % 4)) % 4);
  const curves = head.curves.map(([name, count]) => {
    const x = [], y = [];
    for (let i = 0; i < count; i++, at += 8) { x.push(view.getFloat32(at, true)); y.push(view.getFloat32(at + 4, true)); }
    return { name, x, y };
  });
  return { head, curves };
}

const dataView = (b) => (b instanceof DataView ? b : new DataView(b.buffer ?? b, b.byteOffset ?? 0, b.byteLength));

function thin(curve) { // every four neighbours keep their lowest and highest, so no spike is lost
  const x = [], y = [];
  for (let i = 0; i < curve.x.length; i += 4) {
    let low = -1, high = -1;
    for (let j = i; j < Math.min(i + 4, curve.x.length); j++) {
      if (!Number.isFinite(curve.y[j])) continue;
      if (low < 0 || curve.y[j] < curve.y[low]) low = j;
      if (high < 0 || curve.y[j] > curve.y[high]) high = j;
    }
    for (const j of low < 0 ? [i] : low === high ? [low] : [Math.min(low, high), Math.max(low, high)]) {
      x.push(curve.x[j]); y.push(curve.y[j]);
    }
  }
  curve.x = x; curve.y = y;
}

function absorb(state, packet) { // false if a delta before this one is missing
  const { head, curves } = packet;
  if (!head.full && head.seq < state.head.seq) return true;
  const known = !head.full && head.seq === state.head.seq; // its points are here, but the state may be new
  const whole = head.full || known || head.after === state.head.seq;
  state.head = whole ? head : { ...head, seq: state.head.seq };
  state.received = performance.now();
  if (head.drawn) state.drawn = head.drawn;
  if (known) return true;
  if (head.full) state.curves = new Map();
  if (whole) for (const { name, x, y } of curves) {
    const curve = state.curves.get(name) ?? { x: [], y: [] };
    curve.x.push(...x); curve.y.push(...y);
    if (curve.x.length > BOUND) thin(curve);
    state.curves.set(name, curve);
  }
  return whole;
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

const WIDGET = "application/vnd.jupyter.widget-view+json";

function put(model, id, data) { // beside the view, in a notebook whose outputs have lost the names that the kernel knows
  for (const cell of model.widget_manager?.context?.model?.cells ?? []) {
    for (let i = 0; i + 1 < (cell.outputs?.length ?? 0); i++) {
      if (cell.outputs.get(i).data?.[WIDGET]?.model_id !== id) continue;
      if (cell.outputs.get(i + 1).data?.["text/html"] !== undefined) cell.outputs.set(i + 1, { output_type: "display_data", data, metadata: {} });
      return;
    }
  }
}

const setText = (node, text) => { if (node.textContent !== text) node.textContent = text; };

class View {
  constructor(model, state, el) {
    this.model = model; this.state = state;
    this.title = make("span", { className: "maas-title" });
    this.chip = make("span", { className: "maas-chip", role: "status" });
    this.facts = make("div", { className: "maas-facts" });
    this.hold = make("button", { className: "maas-hold", type: "button", onclick: () => this.wish() }, "Pause");
    this.stop = make("button", { className: "maas-stop", type: "button", onclick: () => this.ask() }, "Stop");
    this.fill = make("i", { className: "maas-fill" });
    this.bar = make("div", { className: "maas-bar", role: "progressbar", ariaLabel: "progress", ariaValueMin: "0", ariaValueMax: "100" }, this.fill);
    this.figures = make("div", { className: "maas-figures" });
    this.panels = [];
    this.charts = make("div", { className: "maas-charts" });
    this.best = make("div", { className: "maas-best" });
    this.drawn = make("div", { className: "maas-drawn", ariaLabel: "what it makes so far", hidden: true });
    this.notes = make("ul", { className: "maas-notes", ariaLabel: "messages" });
    this.root = make("section", { className: "maas" },
      make("header", { className: "maas-top" }, this.title, this.chip, make("span", { className: "maas-gap" }), this.hold, this.stop),
      this.facts, this.bar, this.figures, this.charts, this.drawn, this.best, this.notes, this.alone = make("style"));
    el.append(this.root);
    this.resize = new ResizeObserver(() => this.draw());
    this.resize.observe(this.charts);
    this.clock = setInterval(() => this.tick(), 1000);
    this.draw();
  }

  close() { this.resize.disconnect(); clearInterval(this.clock); cancelAnimationFrame(this.frame); }

  draw() { this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.paint(); }); }

  send(message) { // a dead kernel throws, and there is nothing left to ask
    try { this.model.send(message); return true; } catch { this.lose(); return false; }
  }

  async greet() { // again until the kernel answers: see `ask`
    for (const wait of [300, 700, 2000, 0]) {
      if (this.state.welcome || this.state.gone || !this.root.isConnected || !this.send({ t: "ready", seq: this.state.head.seq })) return;
      await pause(wait);
    }
  }

  lose() { this.state.gone = true; this.draw(); }

  async wish() { // to pause, or to resume: nothing but the kernel's own ear is tried, since an interrupt means Stop
    const { state } = this, word = state.head.state === "paused" ? "resume" : "pause";
    state.wish = word; state.heard = false; this.draw();
    for (let i = 0; i < 4; i++) {
      if (!this.send({ t: word })) return;
      await pause(PATIENCE);
      if (state.heard || state.gone || FINAL.has(state.head.state)) return;
    }
    this.hold.title = "the kernel is busy; the click is heard when the running cell is over";
  }

  async ask() { // the kernel may be too busy to hear the click: then it is interrupted, which its view takes for the same wish
    const { state, model } = this;
    state.asked = true; state.heard = false; this.draw();
    for (let i = 0; i < 2; i++) { // the first message of a page may be sent before the page has a channel of its own
      if (!this.send({ t: "stop" })) return;
      await pause(PATIENCE / 2);
      if (state.heard || state.gone || FINAL.has(state.head.state)) return;
    }
    if (!state.head.blocking || state.free) { // an interrupt would hit another cell; the click is heard when that one is over
      this.stop.title = "the kernel is busy; the job stops when the running cell is over";
      return;
    }
    const kernel = model.widget_manager?.kernel;
    try { if (!kernel || kernel.status === "dead") throw new Error("no kernel"); await kernel.interrupt(); } catch { this.lose(); }
  }

  paint() {
    const { state, root } = this, { head } = state, over = FINAL.has(head.state);
    const shown = over ? head.state : state.gone ? "kernel gone" : state.asked ? "stopping" : head.state;
    root.setAttribute("aria-label", head.title);
    root.dataset.state = shown.replace(" ", "-"); root.dataset.seq = head.seq;
    setText(this.title, head.title);
    setText(this.chip, shown.endsWith("ing") && shown !== "running" ? `${shown}…` : shown);
    if (this.facts.childElementCount !== head.facts.length) this.facts.replaceChildren(...head.facts.map((text) => make("span", {}, text)));
    // The picture for pages without this view stands right below it.
    setText(this.alone, `.maas-still-${head.mark}, .jp-OutputArea-child:has(.maas-still-${head.mark}) { display: none }`);
    const ends = over || head.state === "finishing";
    this.stop.hidden = ends;
    const paused = head.state === "paused";
    state.free ||= paused; // the cell that waited has ended
    if (state.wish === (paused ? "pause" : "resume")) state.wish = "";
    this.hold.hidden = ends || !head.epochs;
    this.hold.disabled = state.gone || state.asked || Boolean(state.wish);
    setText(this.hold, paused ? "Resume" : state.wish === "pause" ? "Pausing…" : "Pause");
    if (!this.hold.disabled) this.hold.title = paused ? "resume from the state on disk" : "keep the state on disk, and let others run";
    this.stop.disabled = state.gone || shown === "stopping";
    if (!state.asked || state.gone) this.stop.title = state.gone ? "the kernel is gone" : "stop and keep the best weights";
    const known = head.fraction !== null, percent = known ? 100 * head.fraction : 0;
    this.bar.classList.toggle("maas-unknown", !known && !ends && !state.gone);
    this.bar.style.setProperty("--ticks", !ends && head.epochs > 1 && head.epochs <= 60 ? `${100 / head.epochs}%` : "200%");
    this.fill.style.width = `${percent}%`;
    known ? (this.bar.ariaValueNow = String(Math.round(percent))) : this.bar.removeAttribute("aria-valuenow");
    this.bar.ariaValueText = head.where || shown;
    this.tick();
    this.lay();
    for (const panel of this.panels) panel.update(state);
    this.show();
    const best = head.best;
    this.best.hidden = !best;
    if (best) this.best.replaceChildren(make("span", { className: "maas-star", ariaHidden: "true" }), make("b", {}, `best epoch ${best.epoch}`),
      ...best.figures.map(([name, value]) => make("span", {}, `${name} `, make("b", {}, value))));
    const notes = state.gone && !over && head.again ? [...head.notes, ["warning", `The kernel is gone; the job continues: ${head.again}`]] : head.notes;
    this.notes.hidden = !notes.length;
    this.notes.replaceChildren(...notes.map(([level, text]) => make("li", { className: `maas-${level}` }, text)));
  }

  show() { // what a network draws while it learns; the same pictures are left as they are
    const { drawn } = this.state;
    if (!drawn || this.shown === drawn) return;
    this.shown = drawn; this.drawn.hidden = false;
    this.drawn.replaceChildren(make("div", { className: "maas-drawn-head" }, drawn.head),
      ...drawn.pictures.map(([title, src]) => make("figure", {}, make("img", { src, alt: title, title }), make("figcaption", {}, title))),
      ...(drawn.texts || []).map(text => make("div", { className: "maas-written" }, text)));
  }

  lay() { // panels appear with their first points: a prediction has none
    const want = (this.state.curves.size ? 1 : 0) + (this.state.head.metrics.length ? 1 : 0);
    while (this.panels.length < want) {
      const panel = new Panel(this.panels.length > 0, this.state.head.log, (x) => this.panels.forEach((other) => other.show(x)));
      this.panels.push(panel); this.charts.append(panel.root);
    }
    this.charts.hidden = !want;
  }

  tick() { // time goes on between two messages
    const { head, received, gone } = this.state;
    const since = FINAL.has(head.state) || head.state === "finishing" || head.state === "paused" || gone || !head.seconds ? 0 : (performance.now() - received) / 1000;
    const items = [head.where, head.speed, head.seconds ? duration(head.seconds + since) : "", head.left !== null && !gone ? `${duration(head.left - since)} left` : ""];
    const text = items.filter(Boolean);
    if (this.figures.dataset.text === text.join("|")) return;
    this.figures.dataset.text = text.join("|");
    this.figures.replaceChildren(...text.map((item) => make("span", {}, item)));
  }
}

// A factory: `initialize` and `render` get different proxies of one model, and share `state` here.
export default () => {
  const state = { head: { seq: -1, curves: [], facts: [] }, curves: new Map(), views: new Set(), received: 0, asked: false, wish: "", free: false, heard: false, welcome: false, gone: false };
  return {
    initialize({ model }) {
      absorb(state, unpack(dataView(model.get("snapshot"))));
      model.on("msg:custom", (message, buffers) => {
        state.heard ||= message.t === "stopping" || message.t === "heard"; state.gone = false;
        state.welcome ||= message.t === "welcome";
        if (message.t === "stopping") state.asked = true;
        if (message.t === "still") put(model, state.head.id, message.data);
        const whole = message.t === "paint" ? absorb(state, unpack(dataView(buffers[0]))) : true;
        for (const view of state.views) { view.draw(); if (!whole) view.send({ t: "sync" }); }
      });
      // Fires when the kernel restarts or dies; a view that only lost its page for a moment hears a message soon.
      model.on("comm_live_update", () => { state.gone = true; for (const view of state.views) view.draw(); });
    },
    render({ model, el }) {
      const view = new View(model, state, el);
      state.views.add(view);
      state.welcome = false;
      requestAnimationFrame(() => view.greet());
      return () => { state.views.delete(view); view.close(); };
    },
  };
};
