"use strict";
// A document's pictures, decoded once: thumbnails of nodes, and the whole picture under a choice of maps.
OnnxplainViewer.Drawing = class {
  static THUMB = 120; // canvas pixels, twice those of the screen
  static FULL = 640;
  #maps = new Map();

  static async of(document) {
    const { paint } = OnnxplainViewer;
    const drawing = new OnnxplainViewer.Drawing();
    drawing.palettes = Object.fromEntries(
      Object.entries(document.colors).map(([name, table]) => [name, paint.bytes(table)]));
    drawing.picture = document.picture && { ...document.picture, image: await paint.decoded(document.picture.src) };
    drawing.exemplars = document.exemplars;
    drawing.others = await Promise.all(document.maps.map(async ({ name, map }) =>
      ({ name, map: await paint.decodedMap(map) })));
    await Promise.all(document.views.flatMap((view) => view.nodes).map(async (node) => {
      const [heat, pixels] = await Promise.all([paint.decodedMap(node.map), paint.decodedMap(node.pixels)]);
      drawing.#maps.set(node, { heat, pixels });
    }));
    return drawing;
  }

  /** Width and height of the canvas for the whole picture. */
  fullSize() {
    const { width, height } = this.picture ?? { width: 2, height: 1 };
    const zoom = OnnxplainViewer.Drawing.FULL / Math.max(width, height);
    return [Math.max(1, Math.round(width * zoom)), Math.max(1, Math.round(height * zoom))];
  }

  /** A node's crop with its heat; null where there is nothing to draw. */
  thumbnail(node) {
    const { h } = OnnxplainViewer.text;
    const { heat } = this.#maps.get(node);
    if (!this.picture && !heat) return null;
    const side = OnnxplainViewer.Drawing.THUMB;
    const canvas = h("canvas", { width: side, height: side, "aria-hidden": "true" });
    const region = this.picture && node.box
      ? OnnxplainViewer.paint.framed(node.box, this.picture, 1) : this.#whole(heat);
    OnnxplainViewer.paint.draw(canvas, this.picture, region, heat, this.#palette(node, heat), "crop");
    return canvas;
  }

  /** What can be shown over the picture for a node: [{key, name, map, says}]. */
  overlays(node) {
    const { text } = OnnxplainViewer;
    const { heat, pixels } = this.#maps.get(node);
    const said = (what) => (view, n) => `The picture${what}. ${text.sentence(view, n)}`;
    const choices = [];
    if (node.level === 0) choices.push({ key: "heat", name: "Picture", map: null, says: said("") });
    else choices.push({ key: "heat", name: "Contribution", map: heat,
      says: said(heat ? " with the heat of this channel" : "") });
    if (pixels) choices.push({ key: "pixels", name: "Pixel evidence", map: pixels, says: said(" with pixel evidence") });
    this.others.forEach(({ name, map }, i) => choices.push(
      { key: `other-${i}`, name, map, says: said(` with the map of ${text.short(name, 60)}`), whole: true }));
    return choices;
  }

  /** Draw the whole picture with a choice of `overlays` over it, and the node's box. */
  full(canvas, node, choice) {
    const { paint } = OnnxplainViewer;
    const palette = this.#palette(choice.whole ? { inhibits: false } : node, choice.map);
    paint.draw(canvas, this.picture, this.#whole(choice.map), choice.map, palette, "whole");
    if (this.picture && node.box && !choice.whole) paint.frame(canvas, this.picture, node.box);
  }

  #palette(node, map) {
    return this.palettes[map?.signed ? "signed" : node.inhibits ? "inhibit" : "support"];
  }

  #whole(map) {
    const { width, height } = this.picture ?? map ?? { width: 1, height: 1 };
    return [0, 0, height, width];
  }
};
