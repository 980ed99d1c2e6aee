"use strict";
// The graph: a column per layer, a button per node, a curve per edge. Buttons and not a canvas, so that
// it can be tabbed through, heard and printed.
OnnxplainViewer.Graph = class {
  #view; #layout; #nodes = new Map(); #edges = []; #columns = [];

  /** on: {look(id), leave(), pin(id)}: a node is pointed at or focused, no longer pointed at, chosen. */
  constructor(on) {
    const { h, s } = OnnxplainViewer.text;
    this.on = on;
    this.heads = h("div", { class: "heads" });
    this.svg = s("svg", { class: "edges", "aria-hidden": "true" });
    this.sheet = h("div", { class: "sheet" }, this.svg);
    this.element = h("section", { class: "graph", "aria-label": "Hierarchy of evidence" }, this.heads, this.sheet);
    this.element.addEventListener("keydown", (event) => this.#key(event));
  }

  /** Build the elements of a view; `drawing` knows the picture and each node's map. */
  build(view, drawing) {
    this.#view = view;
    this.#nodes.clear();
    this.#columns = view.columns.map((column) => this.#column(column));
    this.heads.replaceChildren(...this.#columns.map((c) => c.head));
    this.#edges = view.edges.map((edge) => this.#edge(edge));
    this.svg.replaceChildren(...this.#edges.map((e) => e.path));
    this.sheet.replaceChildren(this.svg, ...this.#columns.map((c) => c.list));
    for (const node of view.nodes) this.#nodes.set(node.id, this.#node(node, drawing));
  }

  /** Scroll to the decision. */
  start() {
    const { y, height } = this.#layout.at.get(this.#view.nodes[0].id);
    this.element.scrollTo(0, y + height / 2 - this.element.clientHeight / 2);
  }

  /** Lay out and show these nodes only. */
  show(ids) {
    const { shape, plural } = OnnxplainViewer.text;
    this.#layout = OnnxplainViewer.layout.place(this.#view, ids);
    const { at, width, height } = this.#layout;
    for (const [id, { item, button }] of this.#nodes) {
      item.hidden = !ids.has(id);
      if (item.hidden) continue;
      const { x, y, low } = at.get(id);
      Object.assign(item.style, { left: `${x}px`, top: `${y}px` });
      button.classList.toggle("low", low);
    }
    this.sheet.style.width = this.heads.style.width = `${width}px`;
    this.sheet.style.height = `${height}px`;
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("height", height);
    this.#route(at);
    for (const [level, column] of this.#columns.entries()) {
      const inside = this.#inColumn(level);
      const items = inside.map((id) => this.#nodes.get(id).item);
      if (items.some((item, i) => column.list.children[i] !== item)) this.#reorder(column.list, items);
      const sizes = shape(this.#view.columns[level].shape);
      column.count.textContent = level === 0 ? "explained output"
        : `${sizes}${sizes ? " \u00b7 " : ""}${plural(inside.length, "node")}`;
    }
  }

  /** Let the paths through a pinned node stand out (all others dimmed), and those of the one looked at. */
  emphasise(pinned, lookedAt, looked) {
    for (const [id, { button }] of this.#nodes) {
      button.classList.toggle("dim", pinned !== null && !pinned.ids.has(id));
      button.classList.toggle("looked", id === looked);
      button.setAttribute("aria-pressed", String(pinned?.id === id));
    }
    for (const { edge, path } of this.#edges) {
      const within = (set) => set.has(edge.parent) && set.has(edge.child);
      path.classList.toggle("dim", pinned !== null && !within(pinned.ids));
      path.classList.toggle("lit", lookedAt !== null && within(lookedAt));
    }
  }

  focus(id) {
    this.#nodes.get(id)?.button.focus();
  }

  #column(column) {
    const { h, short } = OnnxplainViewer.text;
    // Exporters end every name in "_output_0": it tells nothing apart. The full name is in the title.
    const name = column.level === 0 ? "Decision" : short(column.layer.replace(/_output_0$/, ""), 30);
    const count = h("span", { class: "shape" });
    const id = `column-${column.level}`;
    const title = column.layer.length > 2000 ? short(column.layer, 2000) : column.layer;
    const head = h("div", { class: "head", id, title }, h("strong", {}, name), count);
    head.style.left = `${column.level * OnnxplainViewer.layout.STEP}px`;
    return { head, count, list: h("ol", { class: "column", "aria-labelledby": id }) };
  }

  #node(node, drawing) {
    const { h, nodeName, number, signed, percent, sentence, short } = OnnxplainViewer.text;
    const kind = node.level === 0 ? "root" : node.inhibits ? "inhibit" : "support";
    const button = h("button", {
      class: `node ${kind}`, type: "button", "data-id": node.id, "aria-pressed": "false",
      "aria-label": sentence(this.#view, node),
      onmouseenter: () => this.on.look(node.id), onmouseleave: () => this.on.leave(),
      onfocus: () => this.on.look(node.id), onclick: () => this.on.pin(node.id),
    },
      drawing.thumbnail(node),
      h("span", { class: "what" }, nodeName(this.#view, node).slice(0, 60)),
      h("span", { class: "amount" }, node.level === 0 ? number(node.decision) : signed(node.contribution)),
      h("span", { class: "share" }, node.level === 0 ? "score" : node.inhibits ? "inhibits" : percent(node.share)));
    const item = h("li", {}, button);
    this.#columns[node.level].list.append(item);
    return { item, button };
  }

  #edge(edge) {
    const level = this.#view.byId.get(edge.child).level;
    const beside = this.#view.edges.filter((e) => this.#view.byId.get(e.child).level === level);
    const most = Math.max(...beside.map((e) => Math.abs(e.contribution ?? 0))) || 1;
    const kind = (edge.contribution ?? 0) < 0 ? "inhibit" : "support";
    const path = OnnxplainViewer.text.s("path", { class: `edge ${kind}` });
    const thick = 1 + (8 * Math.abs(edge.contribution ?? 0)) / most;
    path.style.strokeWidth = `${thick.toFixed(2)}px`;
    return { edge, path, thick };
  }

  #route(at) {
    const drawn = this.#edges.filter(({ edge }) => at.has(edge.parent) && at.has(edge.child));
    const widths = new Map(drawn.map(({ edge, thick }) => [edge, thick]));
    const curves = OnnxplainViewer.layout.routes(at, drawn.map(({ edge }) => edge), widths);
    for (const { edge, path } of this.#edges) {
      path.classList.toggle("hidden", !curves.has(edge));
      if (curves.has(edge)) path.setAttribute("d", curves.get(edge));
    }
  }

  /** The ids of a column that are shown, from top to bottom. */
  #inColumn(level) {
    const { at } = this.#layout;
    return this.#view.nodes.filter((n) => n.level === level && at.has(n.id)).map((n) => n.id)
      .sort((a, b) => at.get(a).y - at.get(b).y);
  }

  /** Put the items in the order in which they are seen, which is the order Tab goes. */
  #reorder(list, items) {
    const focused = list.contains(document.activeElement) ? document.activeElement : null;
    list.prepend(...items);
    focused?.focus();
  }

  #key(event) {
    const id = event.target.dataset?.id;
    if (id === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
    const next = this.#next(id, event.key);
    if (next === undefined) return;
    event.preventDefault();
    this.focus(next);
  }

  #next(id, key) {
    const { at } = this.#layout;
    const column = this.#inColumn(this.#view.byId.get(id).level);
    const here = column.indexOf(id);
    const steps = {
      ArrowRight: () => this.#view.children.get(id).find((child) => at.has(child)),
      ArrowLeft: () => this.#view.parents.get(id).find((parent) => at.has(parent)),
      ArrowDown: () => column[here + 1],
      ArrowUp: () => column[here - 1],
      Home: () => column[0],
      End: () => column.at(-1),
    };
    return steps[key]?.();
  }
};
