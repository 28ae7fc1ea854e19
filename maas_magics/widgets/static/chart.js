// The charts of the live view: plain SVG, coloured by live.css alone, so a change of theme needs no repaint.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 148, LEFT = 40, RIGHT = 10, TOP = 8, BOTTOM = 20;
const PARTS = [["step", "maas-step"], ["train", "maas-train"], ["validation", "maas-validation"]];
const FINAL = new Set(["succeeded", "failed", "stopped"]);

function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) key in node ? (node[key] = value) : node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function shape(tag, props, text) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(props)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

function figure(value) {
  if (!Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  return size && (size >= 1e5 || size < 1e-3) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

function duration(seconds) {
  const s = Math.max(0, Math.round(seconds)), two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s} s`;
  return s < 3600 ? `${Math.floor(s / 60)} min ${two(s % 60)} s` : `${Math.floor(s / 3600)} h ${two(Math.floor((s % 3600) / 60))} min`;
}

function ticks(low, high, most, whole) { // multiples of the smallest round step that gives few enough
  const unit = 10 ** Math.floor(Math.log10((high - low) / most));
  let step = unit * ([1, 2, 5, 10, 20].find((m) => Math.floor(high / (m * unit)) - Math.ceil(low / (m * unit)) < most) ?? 20);
  if (whole) step = Math.max(1, Math.round(step));
  const out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) out.push(Number(v.toPrecision(12)));
  return out;
}

function logTicks(low, high) {
  const out = [], marks = Math.log10(high / low) < 2 ? [1, 2, 5] : [1];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++) for (const m of marks) {
    const v = m * 10 ** e;
    if (v >= low && v <= high) out.push(Number(v.toPrecision(3)));
  }
  return out.length > 7 ? out.filter((_, i) => i % 2 === 0) : out;
}

function range(series, log) { // the noisy loss of single steps must not flatten the curves of the epochs
  let all = [];
  for (const { part, curve } of series) {
    let y = curve.y.filter((v) => Number.isFinite(v) && (!log || v > 0));
    if (part === "step" && y.length > 50) { y.sort((a, b) => a - b); y = [y[Math.floor(y.length / 100)], y[Math.ceil(y.length * 0.98) - 1]]; }
    all = all.concat(y);
  }
  let low = Math.min(...all), high = Math.max(...all);
  if (!all.length) return log ? [0.1, 1] : [0, 1];
  if (log) return low === high ? [low / 2, high * 2] : [low / 1.1, high * 1.1];
  const pad = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
}

function nearest(curve, x) {
  let low = 0, high = curve.x.length - 1;
  while (high - low > 1) { const mid = (low + high) >> 1; curve.x[mid] < x ? (low = mid) : (high = mid); }
  return Math.abs(curve.x[low] - x) <= Math.abs(curve.x[high] - x) ? low : high;
}

class Panel { // one chart: a heading that is legend and readout at once, and the curves
  constructor(choose, log, share) {
    this.share = share;
    this.cursor = null; this.log = log && !choose; this.name = "loss";
    this.pick = choose ? make("select", { className: "maas-pick", ariaLabel: "metric", onchange: () => { this.name = this.pick.value; this.paint(); } }) : null;
    this.title = make("span", { className: "maas-name" }, choose ? this.pick : "loss");
    this.legend = make("span", { className: "maas-legend" });
    this.logs = make("button", { className: "maas-log", type: "button", title: "logarithmic axis", ariaPressed: String(this.log), onclick: () => {
      this.log = !this.log; this.logs.ariaPressed = String(this.log); this.paint(); } }, "log");
    this.svg = shape("svg", { height: HEIGHT, role: "img", tabindex: 0 });
    this.root = make("div", { className: "maas-panel" }, make("div", { className: "maas-head" }, this.title, this.legend, ...(choose ? [] : [this.logs])), this.svg);
    this.svg.addEventListener("pointermove", (e) => this.point(this.place?.back(e.clientX - this.svg.getBoundingClientRect().left)));
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("blur", () => this.point(null));
    this.svg.addEventListener("keydown", (e) => {
      const way = { ArrowLeft: -1, ArrowRight: 1 }[e.key], main = this.series?.at(-1)?.curve;
      if (!way || !main) return;
      e.preventDefault();
      const at = this.cursor === null ? main.x.length - 1 : nearest(main, this.cursor) + way;
      this.point(main.x[Math.max(0, Math.min(main.x.length - 1, at))]);
    });
  }

  update(state) {
    this.state = state;
    if (this.pick && this.pick.options.length !== state.head.metrics.length) {
      this.pick.replaceChildren(...state.head.metrics.map((name) => make("option", { value: name }, name)));
      this.pick.disabled = state.head.metrics.length < 2;
      this.name = this.pick.value;
    }
    this.paint();
  }

  point(x) { // every panel follows; snaps to the epochs, once there are some
    const main = this.series?.at(-1)?.curve;
    const at = x == null || !main ? null : main.x[nearest(main, x)];
    if (at !== this.cursor) this.share(at);
  }

  show(x) { this.cursor = x; this.paint(); }

  paint() {
    const { state, svg } = this, width = svg.clientWidth || 300, { head } = state;
    this.series = PARTS.map(([part, style]) => ({ part, style, curve: state.curves.get(`${part}/${this.name}`) })).filter((s) => s.curve?.x.length);
    const log = this.log, scale = head.per_epoch || 1, last = Math.max(1, ...[...state.curves.values()].map((c) => c.x.at(-1) ?? 0)); // one axis for all panels
    const [low, high] = range(this.series, log), end = this.end(last, scale);
    const t = log ? Math.log : (v) => v;
    const X = (x) => LEFT + (x / end) * (width - LEFT - RIGHT);
    const Y = (y) => TOP + (1 - (t(y) - t(low)) / (t(high) - t(low))) * (HEIGHT - TOP - BOTTOM);
    this.place = { back: (px) => Math.max(0, Math.min(last, ((px - LEFT) / (width - LEFT - RIGHT)) * end)) };
    const parts = [];
    for (const v of log ? logTicks(low, high) : ticks(low, high, 6)) parts.push(
      shape("line", { class: "maas-grid", x1: LEFT, x2: width - RIGHT, y1: Y(v), y2: Y(v) }),
      shape("text", { class: "maas-tick", x: LEFT - 6, y: Y(v) + 3.5, "text-anchor": "end" }, figure(v)));
    for (const v of ticks(0, end / scale, Math.max(3, Math.round(width / 48)), true)) parts.push(
      shape("text", { class: "maas-tick", x: X(v * scale), y: HEIGHT - 5, "text-anchor": "middle" }, v >= 1e4 ? `${v / 1000}k` : v));
    if (head.per_epoch) parts.push(shape("text", { class: "maas-tick", x: LEFT - 9, y: HEIGHT - 5, "text-anchor": "end" }, "epoch"));
    parts.push(shape("line", { class: "maas-axis", x1: LEFT, x2: width - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }));
    const inside = (y) => Math.max(TOP - 4, Math.min(HEIGHT - BOTTOM, Y(y)));
    for (const { style, curve, part } of this.series) {
      let d = "", pen = "M";
      curve.x.forEach((x, i) => {
        const y = curve.y[i];
        if (!Number.isFinite(y) || (log && y <= 0)) { pen = "M"; return; }
        d += `${pen}${X(x).toFixed(1)} ${inside(y).toFixed(1)}`; pen = "L";
      });
      parts.push(shape("path", { class: `maas-line ${style}`, d }));
      if (part !== "step" && curve.x.length === 1) parts.push(shape("circle", { class: `maas-dot ${style}`, r: 3, cx: X(curve.x[0]), cy: inside(curve.y[0]) }));
    }
    if (head.best) {
      const main = this.series.at(-1), at = main && nearest(main.curve, head.best.step);
      parts.push(shape("line", { class: "maas-bestline", x1: X(head.best.step), x2: X(head.best.step), y1: TOP, y2: HEIGHT - BOTTOM }));
      if (main && main.part !== "step") parts.push(shape("circle", { class: "maas-best-dot", r: 3.6, cx: X(main.curve.x[at]), cy: inside(main.curve.y[at]) }));
    }
    this.readout(parts, X, inside, scale);
    svg.replaceChildren(...parts);
  }

  end(last, scale) { // grows in strides, so that the curves do not creep at every paint
    const { head } = this.state, total = head.epochs * head.per_epoch;
    if (FINAL.has(head.state)) return last;
    const epochs = (last / scale) * 1.02, unit = 10 ** Math.floor(Math.log10(Math.max(epochs, 1)));
    const stride = [1, 1.5, 2, 3, 4, 5, 6, 8, 10].find((m) => m * unit >= epochs) * unit * scale;
    return total ? Math.min(Math.max(total, last), stride) : stride;
  }

  readout(parts, X, Y, scale) { // the legend names the values at the cursor, or else the latest
    const at = this.cursor, words = [];
    if (at !== null) {
      const text = scale > 1 ? String(Number((at / scale).toFixed(2))) : `${Math.round(at)}`, half = 6 + 3 * text.length;
      parts.push(shape("line", { class: "maas-cursor", x1: X(at), x2: X(at), y1: TOP, y2: HEIGHT - BOTTOM }),
        shape("rect", { class: "maas-flag", x: X(at) - half, y: HEIGHT - BOTTOM + 3, width: 2 * half, height: 15, rx: 4 }),
        shape("text", { class: "maas-flagged", x: X(at), y: HEIGHT - 5, "text-anchor": "middle" }, text));
    }
    for (const { part, style, curve } of this.series) {
      if (part === "step" && this.series.length > 1) continue; // too noisy to be read beside the epochs'
      const i = at === null ? curve.x.length - 1 : nearest(curve, at);
      if (at !== null) parts.push(shape("circle", { class: `maas-dot ${style}`, r: 2.8, cx: X(curve.x[i]), cy: Y(curve.y[i]) }));
      words.push(make("span", { className: style }, `${part === "step" ? "train" : part} `, make("b", {}, figure(curve.y[i]))));
    }
    this.legend.replaceChildren(...words);
    const where = at === null ? "" : this.state.head.per_epoch ? `, epoch ${Number((at / scale).toFixed(2))}` : `, step ${at}`;
    this.svg.setAttribute("aria-label", `${this.name}${where}: ${this.legend.textContent || "no value yet"}`);
  }
}
