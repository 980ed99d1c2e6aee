"use strict";
// The live page: a picture goes to the server, a question about it, and the answer into the viewer.
OnnxplainViewer.live = {};

/** The server. Every failure becomes an Error whose message can be shown. */
OnnxplainViewer.live.server = (() => {
  async function call(path, options = {}) {
    let answer;
    try {
      answer = await fetch(path, options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("The server does not answer: was it stopped?");
    }
    if (answer.ok) return answer;
    const said = await answer.json().catch(() => ({}));
    throw new Error(said.error ?? `The server answered ${answer.status}.`);
  }
  const json = async (path, options) => (await call(path, options)).json();
  return {
    model: () => json("api/model"),
    upload: (file, signal) => json("api/images", { method: "POST", body: file, signal }),
    ask: (question) => json("api/jobs", {
      method: "POST", body: JSON.stringify(question), headers: { "Content-Type": "application/json" },
    }),
    status: (id) => json(`api/jobs/${id}`),
    document: (id) => json(`api/jobs/${id}/document`),
    forget: (id) => call(`api/jobs/${id}`, { method: "DELETE", keepalive: true }).catch(() => {}),
    file: (id, name) => `api/jobs/${id}/files/${name}`,
    picture: async (id, name) => (await call(`api/jobs/${id}/files/${name}`)).blob(),
  };
})();

/** One question after another: what was uploaded, and the job that runs. A later question replaces it. */
OnnxplainViewer.live.Session = class {
  #turn = 0; #job = null; #shown = null; #upload = null;
  image = null;

  /** `view` is told of what happens: busy, looked, answered, done, failed. */
  constructor(view) {
    this.view = view;
    this.server = OnnxplainViewer.live.server;
    addEventListener("pagehide", () => this.stop());
  }

  /** Upload a picture, then ask. */
  look(file) {
    return this.#attempt(async (turn) => {
      this.view.busy({ state: "uploading", step: file.name ?? "" });
      this.#upload = new AbortController();
      const seen = await this.server.upload(file, this.#upload.signal);
      if (turn !== this.#turn) return;
      this.image = seen.id;
      this.view.looked(seen, file);
      await this.#ask(turn);
    });
  }

  /** Ask what the controls say about the picture that was uploaded last. */
  ask() {
    return this.#attempt((turn) => this.#ask(turn));
  }

  /** Stop what runs. */
  stop() {
    this.#turn += 1;
    this.#upload?.abort();
    if (this.#job !== null) this.server.forget(this.#job);
    this.#job = null;
  }

  async #attempt(work) {
    this.stop();
    const turn = this.#turn;
    try {
      await work(turn);
    } catch (error) {
      if (turn === this.#turn) this.view.failed(error.message);
    }
  }

  async #ask(turn) {
    let job = await this.server.ask({ image: this.image, ...this.view.question() });
    if (turn !== this.#turn) return this.server.forget(job.id);
    this.#job = job.id;
    for (let wait = 60; job.state === "queued" || job.state === "running"; wait = Math.min(2 * wait, 500)) {
      this.view.busy(job);
      await new Promise((resolve) => setTimeout(resolve, wait));
      if (turn === this.#turn) job = await this.server.status(job.id);
      if (turn !== this.#turn) return;
    }
    if (job.state !== "done") throw new Error(job.error ?? "The server cancelled this: ask again.");
    this.view.busy({ state: "drawing", step: "" });
    const [document, ...pictures] = await Promise.all([
      job.results.hierarchy ? this.server.document(job.id) : null,
      ...job.results.methods.map((one) => this.server.picture(job.id, `${one.method}.tile.png`))]);
    if (turn !== this.#turn) return;
    const before = this.#shown;
    [this.#job, this.#shown] = [null, job.id]; // it stays on the server, for downloads, until the next answer
    if (before !== null) this.server.forget(before);
    await this.view.answered(job, document, pictures);
    if (turn === this.#turn) this.view.done();
  }
};
