"use strict";
// Elements, numbers and words. Text only ever enters the page as text nodes and attributes: whatever a
// label or a layer's name holds, it is never parsed as HTML.
window.OnnxplainViewer = {};
OnnxplainViewer.text = (() => {
  const MINUS = "\u2212";
  const SVG = "http://www.w3.org/2000/svg";

  function filled(element, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
      else if (value === true) element.setAttribute(name, "");
      else if (value !== false && value !== null) element.setAttribute(name, value);
    }
    element.append(...children.flat().filter((child) => child !== null));
    return element;
  }
  /** Make an element: h("p", {class: "a", onclick: f}, "text", child). */
  const h = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
  const s = (tag, attributes = {}, ...children) =>
    filled(document.createElementNS(SVG, tag), attributes, children);

  /** 2.9528 -> "2.95", -0.04 -> "−0.0400"; null (not finite) -> "not finite". */
  function number(x) {
    if (x === null || x === undefined) return "not finite";
    const size = Math.abs(x);
    const digits = size === 0 ? "0" : size >= 1e5 || size < 1e-4 ? size.toExponential(2)
      : size >= 1000 ? size.toFixed(0) : size.toPrecision(3);
    return (x < 0 ? MINUS : "") + digits;
  }
  const signed = (x) => (x > 0 ? "+" : "") + number(x);

  /** A share as a percentage: 0.0703 -> "7.0 %", 0.00022 -> "0.022 %". */
  function percent(x) {
    if (x === null || x === undefined) return "not finite";
    const p = 100 * x;
    if (p === 0) return "0\u00a0%";
    const digits = p >= 10 ? p.toFixed(0) : p >= 1 ? p.toFixed(1) : p < 1e-3 ? p.toExponential(1) : p.toPrecision(2);
    return `${digits}\u00a0%`;
  }

  /** Shorten in the middle: the ends of a layer's name tell it from the others. */
  function short(name, most = 28) {
    const letters = Array.from(name);
    if (letters.length <= most) return name;
    const tail = Math.floor((most - 1) * 0.6);
    return letters.slice(0, most - 1 - tail).join("") + "\u2026" + letters.slice(-tail).join("");
  }

  const shape = (sizes) => (sizes ? sizes.join(" \u00d7 ") : "");
  const plural = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

  /** What a node is called: the label of the decision, or its channel. */
  const nodeName = (view, node) => (node.level === 0 ? view.label : `channel ${node.channel}`);

  /** A node in a sentence, for those who hear the page. */
  function sentence(view, node) {
    if (node.level === 0) {
      return `The decision: ${short(view.label, 120)}, score ${number(node.decision)}.`;
    }
    const layer = short(view.columns[node.level].layer, 60);
    const parents = view.parents.get(node.id).map((id) => short(nodeName(view, view.byId.get(id)), 60));
    const what = node.inhibits ? "inhibits" : "supports";
    const share = node.inhibits ? "" : `, ${percent(node.share)} of its support`;
    return `Channel ${node.channel} of ${layer} ${what} ${parents.join(" and ")}: ` +
      `contribution ${signed(node.contribution)}${share}.`;
  }

  return { h, s, number, signed, percent, short, shape, plural, nodeName, sentence };
})();
