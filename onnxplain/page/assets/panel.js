"use strict";
// The panel: the whole picture with the heat of the node looked at, and that node's numbers.
OnnxplainViewer.Panel = class {
  #drawing; #view; #node; #overlay = "heat";

  constructor() {
    const { h } = OnnxplainViewer.text;
    this.canvas = h("canvas", { role: "img" });
    this.overlays = h("div", { class: "overlays", role: "group", "aria-label": "Shown over the picture" });
    this.facts = h("div", { class: "facts" });
    this.element = h("section", { class: "panel", "aria-label": "Picture and numbers" },
      h("figure", { class: "picture" }, this.canvas, this.overlays), this.facts);
  }

  build(drawing) {
    this.#drawing = drawing;
    this.#node = null;
    this.#overlay = "heat";
    const [width, height] = drawing.fullSize();
    Object.assign(this.canvas, { width, height });
    this.element.classList.toggle("no-picture", drawing.picture === null);
  }

  /** Show a node of a view. */
  show(view, node) {
    if (node === this.#node) return; // what is focused or half clicked in the panel stays
    this.#view = view;
    this.#node = node;
    this.#paint();
    this.facts.replaceChildren(...this.#facts());
  }

  #paint() {
    const { h } = OnnxplainViewer.text;
    const choices = this.#drawing.overlays(this.#node);
    const chosen = choices.find((choice) => choice.key === this.#overlay) ?? choices[0];
    this.#drawing.full(this.canvas, this.#node, chosen);
    this.canvas.setAttribute("aria-label", `${chosen.says(this.#view, this.#node)}`);
    this.canvas.hidden = this.#drawing.picture === null && chosen.map === null;
    this.overlays.hidden = choices.length < 2;
    this.overlays.replaceChildren(...choices.map((choice) => h("button", {
      type: "button", "aria-pressed": String(choice === chosen), "data-overlay": choice.key, title: choice.name,
      onclick: () => {
        this.#overlay = choice.key;
        this.#paint();
        this.overlays.querySelector("[aria-pressed=true]").focus();
      },
    }, OnnxplainViewer.text.short(choice.name, 24))));
  }

  #facts() {
    const { h, nodeName, number, signed, percent, short } = OnnxplainViewer.text;
    const node = this.#node, view = this.#view, root = node.level === 0;
    const rows = [];
    const row = (name, value) => rows.push(h("dt", {}, name), h("dd", {}, value));
    row(root ? "Score" : "Decision", number(node.decision));
    if (!root) {
      row("Contribution", signed(node.contribution));
      row("Share", node.inhibits ? "none: it inhibits" : percent(node.share));
      row("Share of the decision", node.inhibits ? "none: it inhibits" : percent(node.root_share));
      if (node.inhibits) row("Of all |contributions|", percent(Math.abs(node.signed)));
    }
    if (node.residual !== null) row("Residual", signed(node.residual));
    if (node.peak) row("Peak in the layer", `row ${node.peak[0]}, column ${node.peak[1]}`);
    if (node.box) {
      const [top, left, bottom, right] = node.box;
      row("Sees pixels", `rows\u00a0${top}\u2013${bottom - 1}, columns\u00a0${left}\u2013${right - 1}`);
    }
    for (const other of view.alsoIn(node)) row("Also in", short(other, 40));
    const layer = view.columns[node.level].layer;
    return [
      h("h2", {}, h("span", { class: `kind ${root ? "root" : node.inhibits ? "inhibit" : "support"}` },
        root ? "decision" : node.inhibits ? "inhibits" : "supports"), " ", short(nodeName(view, node), 60)),
      h("p", { class: "layer" }, root ? "output tensor " : "layer ", h("code", {}, short(layer, 400))),
      root ? null : this.#crumbs(),
      h("dl", {}, ...rows),
      this.#balance(),
      this.#exemplars(),
    ].filter((part) => part !== null);
  }

  /** The strongest way up to the decision, in words. */
  #crumbs() {
    const { h, nodeName, short } = OnnxplainViewer.text;
    const names = [];
    for (let id = this.#node.id; id !== undefined; id = this.#view.parents.get(id)[0]) {
      names.push(short(nodeName(this.#view, this.#view.byId.get(id)), 24));
    }
    return h("p", { class: "crumbs" }, names.reverse().join(" \u2190 "));
  }

  /** Where the decision comes from: nothing is left out, least of all what the page does not show. */
  #balance() {
    const { h, signed, percent, plural } = OnnxplainViewer.text;
    const parts = OnnxplainViewer.state.balance(this.#view, this.#node);
    if (parts === null) return null;
    const weight = this.#view.meta.weight ?? "signed";
    const says = {
      support: (p) => plural(p.count, "supporting channel") + " in this tree",
      inhibit: (p) => plural(p.count, "inhibiting channel") + " in this tree",
      rest: () => "all other channels",
      residual: () => `residual: bias, curvature${weight === "signed" ? "" : ` and what weight "${weight}" leaves out`}`,
    };
    const whole = parts.reduce((sum, p) => sum + Math.abs(p.amount), 0) || 1;
    const bar = h("div", { class: "stack", "aria-hidden": "true" }, ...parts.map((p) => {
      const piece = h("i", { class: p.kind });
      piece.style.width = `${(100 * Math.abs(p.amount)) / whole}%`;
      return piece;
    }));
    const covered = h("i");
    covered.style.width = `${100 * this.#node.coverage}%`;
    return h("div", { class: "balance" },
      h("h3", {}, "Where it comes from"), bar,
      h("ul", {}, ...parts.filter((p) => p.count !== 0).map((p) =>
        h("li", { class: p.kind }, h("span", {}, says[p.kind](p)), h("b", {}, signed(p.amount))))),
      h("div", { class: "coverage" },
        h("span", {}, `Coverage: ${percent(this.#node.coverage)} of its support is in this tree`),
        h("div", { class: "bar", "aria-hidden": "true" }, covered)));
  }

  #exemplars() {
    const { h } = OnnxplainViewer.text;
    const found = this.#drawing.exemplars[this.#node.exemplars] ?? [];
    if (!found.length) return null;
    return h("div", { class: "exemplars" }, h("h3", {}, "Pictures that activate it most"),
      ...found.map(({ src, caption }) =>
        h("figure", {}, h("img", { src, alt: "" }), h("figcaption", {}, caption))));
  }
};
