"use strict";
// The viewer: header, controls, graph and panel, and what happens between them.
OnnxplainViewer.Viewer = class {
  #document = null; #views = []; #view = null; #shown = new Set(); #pinned = null; #looked = null; #turn = 0;

  constructor(element) {
    const { h } = OnnxplainViewer.text;
    this.graph = new OnnxplainViewer.Graph({
      look: (id) => this.#look(id), leave: () => this.#leave(), pin: (id) => this.#pin(id),
    });
    this.panel = new OnnxplainViewer.Panel();
    this.header = h("header", { class: "top" });
    this.status = h("p", { class: "unseen", role: "status", "aria-live": "polite" });
    this.foot = h("section", { class: "foot", "aria-label": "About this hierarchy" });
    this.tools = this.#tools();
    this.side = h("div", { class: "side" }, this.panel.element, this.foot);
    this.main = h("main", { class: "main" }, this.tools, this.graph.element);
    element.replaceChildren(this.header, h("div", { class: "body" }, this.side, this.main), this.status);
    this.element = element;
    element.classList.add("viewer");
    element.hidden = true;
    document.addEventListener("keydown", (event) => { if (event.key === "Escape") this.#all(); });
  }

  /** Show a document (see page/document.py) instead of what is shown now; resolves when it is drawn. */
  async show(document) {
    const turn = ++this.#turn;
    const drawing = await OnnxplainViewer.Drawing.of(document);
    if (turn !== this.#turn) return; // a later document came in between
    this.#document = document;
    this.drawing = drawing;
    this.#views = OnnxplainViewer.state.prepare(document.views);
    this.element.hidden = false;
    this.panel.build(drawing);
    this.#choose(0);
  }

  /** Say something to those who hear the page. */
  announce(text) {
    this.status.textContent = text;
  }

  #tools() {
    const { h } = OnnxplainViewer.text;
    this.slider = h("input", { type: "range", id: "threshold", min: 0, max: 100, value: 0, oninput: () => this.#filter() });
    this.measure = h("select", { id: "measure", "aria-label": "Share of what", onchange: () => this.#filter() },
      h("option", { value: "root" }, "of the decision"), h("option", { value: "share" }, "of the parent"));
    this.inhibitors = h("input", { type: "checkbox", id: "inhibitors", checked: true, onchange: () => this.#filter() });
    this.level = h("output", { for: "threshold" });
    this.count = h("span", { class: "count" });
    this.all = h("button", { type: "button", class: "all", onclick: () => this.#all() }, "Show all paths");
    return h("div", { class: "tools", role: "group", "aria-label": "What is shown" },
      h("label", { for: "threshold" }, "Hide below"), this.slider, this.level, this.measure,
      h("label", { class: "check" }, this.inhibitors, " Inhibitors"),
      this.count, this.all, OnnxplainViewer.legend());
  }

  #choose(index) {
    this.#view = this.#views[index];
    this.#pinned = this.#looked = null;
    this.slider.value = 0;
    this.#head(index);
    this.graph.build(this.#view, this.drawing);
    this.inhibitors.parentElement.hidden = !this.#view.nodes.some((node) => node.inhibits);
    this.#filter();
    this.graph.start();
  }

  #head(index) {
    const { h, number, percent, short } = OnnxplainViewer.text;
    const { views, top } = this.#document;
    const view = this.#view;
    document.title = `${short(view.title, 80)} \u2013 onnxplain`;
    const facts = [`score ${number(view.score)}`, `target: ${short(view.target, 60)}`, short(view.model, 60)];
    const best = top[0];
    if (best) {
      const p = best.probability === null ? "" : ` (${percent(best.probability)})`;
      facts.splice(1, 0, `predicted: ${short(best.label, 60)}${p}`);
    }
    // An empty tree is an answer that needs words: evidence spread so thin that no channel holds its share.
    if (view.nodes[0].coverage === 0) {
      const least = typeof view.meta.min_share === "number" ? percent(view.meta.min_share) : "enough";
      facts.push(`no channel of the first layer holds ${least} of the positive evidence (min_share)`);
    }
    const choice = views.length < 2 ? null : h("div", { class: "views", role: "group", "aria-label": "Question" },
      ...views.map((v, i) => h("button", {
        type: "button", "aria-pressed": String(i === index), title: short(v.title, 400),
        onclick: () => { this.#choose(i); this.header.querySelector("[aria-pressed=true]").focus(); },
      }, short(v.title, 40))));
    this.header.replaceChildren(
      h("div", {}, h("h1", { title: short(view.title, 400) }, short(view.title, 90)),
        h("p", { class: "summary" }, ...facts.filter((f) => f && f !== "target: ").map((f) => h("span", {}, f)))),
      choice ?? "");
  }

  #filter() {
    const { percent, plural } = OnnxplainViewer.text;
    const { state, outline } = OnnxplainViewer;
    const view = this.#view, measure = this.measure.value;
    const threshold = state.threshold(view, Number(this.slider.value), measure);
    this.#shown = state.shown(view, { threshold, measure, inhibitors: this.inhibitors.checked });
    if (!this.#shown.has(this.#pinned)) this.#pinned = null;
    if (!this.#shown.has(this.#looked)) this.#looked = this.#pinned;
    const said = percent(threshold);
    this.level.value = said;
    this.slider.setAttribute("aria-valuetext", `${said} ${this.measure.selectedOptions[0].textContent}`);
    this.graph.show(this.#shown);
    this.#emphasise();
    this.count.textContent = `${this.#shown.size} of ${plural(view.nodes.length, "node")}`;
    this.announce(`${view.title.slice(0, 120)} ${this.#shown.size} of ${plural(view.nodes.length, "node")} shown.`);
    this.#about(outline.list(view, this.#shown));
  }

  #about(list) {
    const { h } = OnnxplainViewer.text;
    const { outline } = OnnxplainViewer;
    const open = new Set([...this.foot.querySelectorAll("details[open]")].map((d) => d.className));
    const part = (name, title, content) =>
      h("details", { class: name, open: open.has(name) }, h("summary", {}, title), content);
    this.foot.replaceChildren(
      part("how", "How to read this page", outline.words(this.#document.definitions)),
      part("text", "The hierarchy as text", list),
      part("made", "How it was made", outline.made(this.#view, this.#document.made_by)));
  }

  #look(id) {
    this.#looked = id;
    this.#emphasise();
  }

  /** What was pointed at stays, so that the panel can be used; only a chosen node takes its place back. */
  #leave() {
    if (this.#pinned !== null) this.#look(this.#pinned);
  }

  #pin(id) {
    if (id === this.#pinned) return this.#all();
    this.#pinned = id;
    this.#look(id);
    const { nodeName, plural, short } = OnnxplainViewer.text;
    const ids = [...OnnxplainViewer.state.through(this.#view, id)].filter((i) => this.#shown.has(i));
    const name = short(nodeName(this.#view, this.#view.byId.get(id)), 60);
    this.announce(`Paths through ${name}: ${plural(ids.length, "node")}. Escape shows all.`);
  }

  #all() {
    if (this.#view === null) return;
    const dimmed = this.#pinned !== null;
    this.#pinned = null;
    this.#look(null);
    if (dimmed) this.announce("All paths shown.");
  }

  #emphasise() {
    const through = (id) => OnnxplainViewer.state.through(this.#view, id);
    const pinned = this.#pinned === null ? null : { id: this.#pinned, ids: through(this.#pinned) };
    const looked = this.#looked;
    this.graph.emphasise(pinned, looked === null ? null : through(looked), looked);
    this.panel.show(this.#view, looked === null ? this.#view.nodes[0] : this.#view.byId.get(looked));
    this.all.style.visibility = this.#pinned === null ? "hidden" : "visible"; // keeps its place
  }
};

/** What the lines mean. */
OnnxplainViewer.legend = () => {
  const { h, s } = OnnxplainViewer.text;
  const line = (kind) => s("svg", { width: 34, height: 10, "aria-hidden": "true" },
    s("path", { class: `edge ${kind}`, d: "M1 5 H33", "stroke-width": 4 }));
  return h("span", { class: "legend" }, line("support"), "supports", line("inhibit"), "inhibits",
    h("span", { class: "hint" }, "the wider, the more it contributes"));
};

OnnxplainViewer.mount = (element) => new OnnxplainViewer.Viewer(element);
OnnxplainViewer.page = OnnxplainViewer.mount(document.getElementById("viewer"));
{
  const embedded = JSON.parse(document.getElementById("document").textContent);
  if (embedded !== null) {
    OnnxplainViewer.page.show(embedded).catch((error) => {
      const says = `This page could not be drawn (it needs a browser of 2024 or later): ${error.message}`;
      document.getElementById("viewer").replaceWith(says);
      throw error;
    });
  }
}
