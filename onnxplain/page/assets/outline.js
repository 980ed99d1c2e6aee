"use strict";
// The same hierarchy in words, as a nested list: for screen readers, for copying, for small screens.
OnnxplainViewer.outline = (() => {
  /** Build the list of what is shown; a node of several parents is told once and named again. */
  function list(view, shown) {
    const { h, sentence } = OnnxplainViewer.text;
    const told = new Set();
    const item = (id) => {
      const node = view.byId.get(id);
      if (told.has(id)) return h("li", {}, `Channel ${node.channel}, as told above.`);
      told.add(id);
      const children = view.children.get(id).filter((child) => shown.has(child));
      return h("li", {}, sentence(view, node), children.length ? h("ul", {}, ...children.map(item)) : null);
    };
    return h("ul", { class: "outline" }, item(view.nodes[0].id));
  }

  /** How the hierarchy was made: its meta, flattened. */
  function made(view, by) {
    const { h, short } = OnnxplainViewer.text;
    const rows = [h("dt", {}, "made by"), h("dd", {}, by)];
    for (const [name, value] of Object.entries(view.meta)) {
      const text = typeof value === "string" ? value : JSON.stringify(value);
      rows.push(h("dt", {}, short(name, 60)), h("dd", {}, short(text, 600)));
    }
    return h("dl", { class: "meta" }, ...rows);
  }

  const words = (definitions) => {
    const { h } = OnnxplainViewer.text;
    return h("dl", { class: "words" }, ...definitions.flatMap(([term, text]) =>
      [h("dt", {}, term), h("dd", {}, text)]));
  };

  return { list, made, words };
})();
