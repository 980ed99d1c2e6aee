"use strict";
// The live page itself: controls, progress, what went wrong, and results with their files.
OnnxplainViewer.live.Page = class {
  constructor(element, model) {
    const { h, short } = OnnxplainViewer.text;
    this.session = new OnnxplainViewer.live.Session(this);
    this.model = model;
    this.controls = new OnnxplainViewer.live.Controls(model, {
      look: (file) => this.#look(file), ask: () => this.#ask(), stop: () => this.#stop(),
    });
    this.bar = h("progress", { max: 1 });
    this.words = h("span", { role: "status" });
    this.progress = h("div", { class: "working", hidden: true }, this.bar, this.words,
      h("button", { type: "button", class: "stop", onclick: () => this.#stop() }, "Stop"));
    this.problem = h("p", { class: "problem", role: "alert", hidden: true });
    this.results = h("section", { class: "results", "aria-label": "Results" }, this.#welcome());
    this.fold = h("button", { type: "button", class: "fold", "aria-controls": "live", onclick: () => this.#fold() });
    const guessed = model.preprocess.startsWith("guessed");
    element.replaceChildren(
      h("header", {}, h("h1", {}, "onnxplain"), h("p", { title: short(model.name, 400) }, short(model.name, 60)),
        h("p", { class: guessed ? "warning" : "" }, `pre-processing: ${short(model.preprocess, 160)}`)),
      this.controls.element, h("div", { class: "doing" }, this.problem, this.progress, this.controls.run));
    element.before(this.fold);
    element.after(this.results);
    this.results.classList.add("alone");
    this.element = element;
    this.#fold();
  }

  /** Before the first answer: what this is. */
  #welcome() {
    const { h } = OnnxplainViewer.text;
    return h("div", { class: "welcome" }, h("h2", {}, "Why did the network decide what it decided?"),
      h("p", {}, "Choose a picture. The network\u2019s decision is decomposed, layer by layer, into the channels that support it; " +
        "saliency and class activation maps of the same decision stand beside the hierarchy."));
  }

  /** Hide the controls, or show them again. */
  #fold() {
    this.element.hidden = !this.element.hidden;
    this.fold.textContent = this.element.hidden ? "\u00bb" : "\u00ab";
    this.fold.setAttribute("aria-expanded", String(!this.element.hidden));
    this.fold.setAttribute("aria-label", this.element.hidden ? "Show the controls" : "Hide the controls");
  }

  question() {
    return this.controls.question();
  }

  looked(seen, file) {
    this.controls.looked(seen, file);
  }

  busy({ state, step, at, of, part }) {
    const { short } = OnnxplainViewer.text;
    const running = state === "running" && of > 0;
    this.words.textContent = running ? `${short(step, 60)} (${at} of ${of})` : `${state} ${short(step, 60)}`;
    if (running) this.bar.value = (at - 1 + part) / of;
    else this.bar.removeAttribute("value");
    this.problem.hidden = true;
    this.progress.hidden = false;
  }

  failed(message) {
    this.progress.hidden = true;
    this.problem.textContent = OnnxplainViewer.text.short(message, 400);
    this.problem.hidden = false;
  }

  async answered(job, document, pictures) {
    const { h, number, short } = OnnxplainViewer.text;
    for (const picture of this.results.querySelectorAll("img")) URL.revokeObjectURL(picture.src);
    const cards = job.results.methods.map((one, i) => {
      const picture = h("img", { src: URL.createObjectURL(pictures[i]), alt: `${one.method}: what speaks for ${short(one.label, 60)}` });
      const facts = [short(one.label, 40), `score ${number(one.score)}`, one.layer, ...one.inexact].filter((fact) => fact !== null);
      return h("figure", { class: "card", "data-method": one.method }, h("h3", {}, one.method.replaceAll("_", "-")), picture,
        h("figcaption", {}, facts.map((fact) => h("span", { class: "fact", title: short(fact, 300) }, short(fact, 60))), this.#files(job, one.method)));
    });
    for (const [method, reason] of Object.entries(job.results.refused)) {
      cards.push(h("div", { class: "card refused", "data-method": method }, h("h3", {}, method.replaceAll("_", "-")), h("p", {}, reason)));
    }
    if (document !== null) {
      cards.unshift(h("div", { class: "card tree" }, h("h3", {}, "hierarchy"), h("p", {}, "Shown below."), this.#files(job, "hierarchy")));
    }
    this.results.replaceChildren(...cards);
    this.results.hidden = cards.length === 0;
    this.results.classList.toggle("alone", document === null);
    const viewer = OnnxplainViewer.page;
    if (document !== null) await viewer.show(document);
    viewer.element.hidden = document === null;
  }

  done() {
    this.progress.hidden = true;
    OnnxplainViewer.page.announce("The answer is there.");
  }

  #files(job, stem) {
    const { h } = OnnxplainViewer.text;
    const names = job.results.files.filter((name) => name.startsWith(`${stem}.`) && !name.includes(".tile."));
    return h("p", { class: "files" }, ...names.map((name) =>
      h("a", { href: this.session.server.file(job.id, name), download: name }, name.slice(stem.length + 1))));
  }

  #look(file) {
    const megabytes = this.model.upload / 2 ** 20;
    if (file.size > this.model.upload) return this.failed(`The file is too large: at most ${megabytes} MB.`);
    this.session.look(file);
  }

  #ask() {
    if (this.session.image === null) return this.failed("Choose a picture first.");
    if (this.question().methods.length === 0) return this.failed("Choose a method or more.");
    this.busy({ state: "asking", step: "" });
    this.session.ask();
  }

  #stop() {
    this.session.stop();
    this.progress.hidden = true;
  }
};

OnnxplainViewer.live.server.model().then(
  (model) => { OnnxplainViewer.live.page = new OnnxplainViewer.live.Page(document.getElementById("live"), model); },
  (error) => { document.getElementById("live").append(error.message); document.getElementById("live").hidden = false; });
