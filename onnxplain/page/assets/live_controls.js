"use strict";
// What can be asked: the picture, the class, the methods, and the hierarchy's layers and rules.
OnnxplainViewer.live.Controls = class {
  /** `model` as the server describes it; `on` has look(file), ask() and stop(). */
  constructor(model, on) {
    this.model = model;
    this.on = on;
    const { h } = OnnxplainViewer.text;
    this.run = h("button", { type: "submit", form: "ask", class: "run", disabled: true }, "Explain");
    this.element = h("form", { id: "ask", class: "ask", onsubmit: (event) => { event.preventDefault(); on.ask(); } },
      this.#picture(), this.#target(), this.#methods(), this.#options());
  }

  /** The question that the controls ask, as the server reads it. */
  question() {
    const ticked = (boxes) => boxes.filter((box) => box.checked).map((box) => box.value);
    const levels = ticked(this.levels), usual = this.levels.filter((box) => box.defaultChecked).map((box) => box.value);
    const against = this.minus.value.trim();
    const target = this.index(this.plus.value) ?? (against ? this.predicted : null);
    return {
      methods: ticked(this.methods),
      target: against ? `${target}-${this.index(against)}` : target,
      compare: this.index(this.other.value),
      layers: levels.join("\n") === usual.join("\n") ? null : levels,
      layer: this.camLayer.value || null,
      depth: this.depth.value === "" ? null : Number(this.depth.value),
      top_k: Number(this.topK.value),
      seed: this.seed.value,
      weight: this.weight.value,
    };
  }

  /** A class as the server reads it: the number of a label, else what was typed; null where nothing was. */
  index(typed) {
    const text = typed.trim();
    const found = this.model.labels?.indexOf(text) ?? -1;
    return text === "" ? null : found >= 0 ? String(found) : text;
  }

  /** Show what the model sees in a picture and says of it. */
  looked(seen, file) {
    const { h, percent, short } = OnnxplainViewer.text;
    URL.revokeObjectURL(this.photo.src);
    this.photo.src = URL.createObjectURL(file);
    this.photo.alt = `The picture ${short(file.name ?? "", 80)}`;
    this.photo.hidden = false;
    this.drop.classList.add("filled");
    this.predicted = seen.top.length ? String(seen.top[0].class_index) : null;
    this.ranking.replaceChildren(...seen.top.map((one) => h("li", {},
      h("button", {
        type: "button", title: `Explain ${short(one.label, 200)}`, "data-class": one.class_index,
        onclick: () => { this.#choose(one); this.on.ask(); },
      }, h("span", { class: "label" }, short(one.label, 40)), h("meter", { min: 0, max: 1, value: one.probability, "aria-hidden": "true" }),
        h("span", { class: "probability" }, percent(one.probability))))));
    this.warning.textContent = seen.warning ?? "";
    this.run.disabled = false;
  }

  /** Name a class of the ranking; by number where its label is not unique, or cannot be typed. */
  #choose({ class_index, label }) {
    this.plus.value = label;
    if (this.index(this.plus.value) !== String(class_index)) this.plus.value = String(class_index);
  }

  #picture() {
    const { h } = OnnxplainViewer.text;
    const kinds = this.model.formats.map((name) => `image/${name.toLowerCase()}`).join(",");
    this.file = h("input", { type: "file", id: "file", accept: kinds, onchange: () => this.#take(this.file.files) });
    // not every picture that can be read (TIFF, PPM) can be shown by a browser
    this.photo = h("img", { class: "photo", hidden: true, alt: "", onerror: () => { this.photo.hidden = true; } });
    this.ranking = h("ol", { class: "ranking", "aria-label": "Prediction: choose a class to explain it" });
    this.warning = h("p", { class: "warning" });
    this.drop = h("label", { class: "drop", for: "file" }, this.photo,
      h("span", { class: "invite" }, "Drop a picture, paste one, or choose a file"), this.file);
    for (const kind of ["dragenter", "dragover"]) {
      addEventListener(kind, (event) => { event.preventDefault(); this.drop.classList.add("over"); });
    }
    addEventListener("dragleave", (event) => { if (event.relatedTarget === null) this.drop.classList.remove("over"); });
    addEventListener("drop", (event) => { event.preventDefault(); this.drop.classList.remove("over"); this.#take(event.dataTransfer.files); });
    addEventListener("paste", (event) => this.#take(event.clipboardData.files));
    return h("fieldset", { class: "picture-in" }, h("legend", {}, "Picture"), this.drop, this.ranking, this.warning);
  }

  #take(files) {
    if (files.length) this.on.look(files[0]);
    this.file.value = ""; // so that the same file can be chosen again
  }

  #target() {
    const { h } = OnnxplainViewer.text;
    const labels = this.model.labels ?? [];
    const example = this.model.classes === null ? "output[i, j]" : "predicted";
    const field = (id, placeholder) => h("input", { id, type: "text", list: "labels", placeholder, maxlength: 400, autocomplete: "off", spellcheck: "false" });
    [this.plus, this.minus, this.other] = [field("plus", example), field("minus", "nothing"), field("other", "nothing")];
    return h("fieldset", {}, h("legend", {}, "What to explain"),
      h("datalist", { id: "labels" }, ...labels.map((label) => h("option", { value: label }))),
      h("label", {}, "Class", this.plus), h("label", {}, "rather than", this.minus), h("label", {}, "compared with", this.other),
      h("p", { class: "note" }, "Labels or numbers. \u201crather than\u201d explains the difference to another score, or to the \u201cmean\u201d of all; \u201ccompared with\u201d adds a second hierarchy to switch to."));
  }

  #methods() {
    const { h } = OnnxplainViewer.text;
    const usual = ["decompose", "lift_cam", "grad_cam", "positive"];
    const mapped = this.model.layers.some((layer) => layer.default_cam);
    const box = ({ name, uses_layer }) => h("input", {
      type: "checkbox", name: "method", value: name, checked: usual.includes(name) && (!uses_layer || mapped),
    });
    this.methods = this.model.methods.map(box);
    const group = (title, chosen) => h("div", { class: "group" }, h("h3", {}, title), ...this.methods.filter((_, i) => chosen(this.model.methods[i]))
      .map((one) => h("label", { class: "check" }, one, one.value === "decompose" ? "hierarchy (gAP)" : one.value.replaceAll("_", "-"))));
    return h("fieldset", { class: "methods" }, h("legend", {}, "Methods"),
      group("Evidence", (m) => m.name === "decompose"),
      group("Saliency", (m) => m.name !== "decompose" && !m.uses_layer),
      group("Activation maps", (m) => m.uses_layer));
  }

  #options() {
    const { h, short, shape } = OnnxplainViewer.text;
    const choose = (id, values) => h("select", { id }, ...values.map((v) => h("option", { value: v }, v)));
    const named = (layer) => `${short(layer.name, 40)} (${layer.op}, ${shape(layer.shape)})`;
    const count = (id, least, most, value) => h("input", { id, type: "number", min: least, max: most, value });
    this.levels = this.model.layers.map((layer) => h("input", { type: "checkbox", name: "level", value: layer.name, checked: layer.default_level }));
    this.camLayer = h("select", { id: "cam-layer" }, h("option", { value: "" }, "default"),
      ...this.model.layers.filter((layer) => layer.cam).map((layer) => h("option", { value: layer.name }, named(layer))));
    [this.depth, this.topK] = [count("depth", 1, 32, ""), count("top-k", 1, 8, 3)];
    [this.seed, this.weight] = [choose("seed", this.model.seeds), choose("weight", this.model.weights)];
    return h("fieldset", { class: "options", "aria-label": "Layers and rules" },
      h("details", {}, h("summary", {}, "Layers and rules"),
        h("label", {}, "Depth (levels)", this.depth), h("label", {}, "Children per node", this.topK),
        h("label", {}, "Seed", this.seed), h("label", {}, "Weight", this.weight), h("label", {}, "CAM layer", this.camLayer),
        h("div", { class: "levels", role: "group", "aria-label": "Layers of the hierarchy, from the input up" }, h("h3", {}, "Layers of the hierarchy"),
          ...this.levels.map((box, i) => h("label", { class: "check", title: short(this.model.layers[i].name, 300) }, box, named(this.model.layers[i]))))));
  }
};
