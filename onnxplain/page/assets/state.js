"use strict";
// What of a view is shown: prepared once, then filtered by threshold and toggles. No elements here.
OnnxplainViewer.state = (() => {
  /** Add to each view of a document what walking through it needs. */
  function prepare(views) {
    const prepared = views.map(linked);
    for (const view of prepared) {
      const others = prepared.filter((other) => other !== view);
      view.alsoIn = (node) => others.filter((o) => node.level > 0 && o.features.has(feature(view, node)))
        .map((o) => o.title);
    }
    return prepared;
  }

  const feature = (view, node) => `${node.channel} of ${view.columns[node.level].layer}`;

  function linked(view) {
    const byId = new Map(view.nodes.map((node) => [node.id, node]));
    const parents = new Map(view.nodes.map((node) => [node.id, []]));
    const children = new Map(view.nodes.map((node) => [node.id, []]));
    for (const edge of view.edges) {
      children.get(edge.parent).push(edge.child);
      parents.get(edge.child).push(edge.parent);
    }
    const strength = new Map(view.edges.map((e) => [`${e.parent}\n${e.child}`, Math.abs(e.contribution ?? 0)]));
    for (const [id, list] of parents) {
      list.sort((a, b) => strength.get(`${b}\n${id}`) - strength.get(`${a}\n${id}`));
    }
    const last = Math.max(...view.nodes.map((node) => node.level));
    const features = new Set(view.nodes.map((node) => feature(view, node)));
    return { ...view, byId, parents, children, features, columns: view.columns.slice(0, last + 1) };
  }

  /** A node's strength on the threshold's scale, 0..1; inhibitors, whose share is 0, by their |signed| share. */
  function strengthOf(view, node, measure) {
    if (node.level === 0) return 1;
    const own = node.inhibits ? Math.abs(node.signed) : node.share;
    if (measure === "share") return own;
    if (!node.inhibits) return node.root_share;
    return own * view.byId.get(view.parents.get(node.id)[0]).root_share;
  }

  /** Return the ids shown: strong enough, not toggled away, and with a parent that is shown. */
  function shown(view, { threshold, measure, inhibitors }) {
    const ids = new Set();
    for (const node of view.nodes) { // level by level, so parents come first
      const hangs = node.level === 0 || view.parents.get(node.id).some((id) => ids.has(id));
      const wanted = inhibitors || !node.inhibits;
      if (hangs && wanted && strengthOf(view, node, measure) >= threshold) ids.add(node.id);
    }
    return ids;
  }

  function reach(start, next) {
    const found = new Set([start]);
    for (const id of found) for (const other of next.get(id)) found.add(other);
    return found;
  }

  /** Return the ids on all paths through a node: it, what it supports, what supports it. */
  const through = (view, id) => new Set([...reach(id, view.parents), ...reach(id, view.children)]);

  /** The slider's 0..100 as a threshold: cubic, because shares shrink with every level. */
  function threshold(view, position, measure) {
    const most = Math.max(0, ...view.nodes.filter((n) => n.level > 0).map((n) => strengthOf(view, n, measure)));
    return most * (position / 100) ** 3;
  }

  /** What a decision is made of: [name, amount, what kind] of what is shown, of the rest and of the residual. */
  function balance(view, node) {
    if (node.residual === null) return null;
    const edges = view.edges.filter((e) => e.parent === node.id);
    const sum = (list) => list.reduce((total, e) => total + e.contribution, 0);
    const support = edges.filter((e) => e.contribution > 0), against = edges.filter((e) => e.contribution < 0);
    const rest = node.decision - node.residual - sum(edges);
    return [
      { kind: "support", count: support.length, amount: sum(support) },
      { kind: "inhibit", count: against.length, amount: sum(against) },
      { kind: "rest", amount: rest },
      { kind: "residual", amount: node.residual },
    ];
  }

  return { prepare, shown, through, threshold, balance };
})();
