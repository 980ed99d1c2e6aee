"use strict";
// Where the nodes stand: dagre orders each column and sets the heights; the columns are the levels.
OnnxplainViewer.layout = (() => {
  const CARD = { width: 186, height: 60 };
  const LOW = { width: 186, height: 38 }; // in a column of many nodes
  const MANY = 12;
  const GAP = { rows: 8, columns: 80 };
  const STEP = CARD.width + GAP.columns;

  /** Return {at: id -> {x, y, width, height, low}, width, height} of the nodes in `shown`. */
  function place(view, shown) {
    const nodes = view.nodes.filter((node) => shown.has(node.id));
    const count = new Map();
    for (const { level } of nodes) count.set(level, (count.get(level) ?? 0) + 1);
    const graph = new dagre.graphlib.Graph();
    const edges = view.edges.filter((edge) => shown.has(edge.parent) && shown.has(edge.child));
    const isTree = edges.every((edge) => view.parents.get(edge.child).length === 1);
    // "UL" puts a parent level with its first child, so that the strongest path runs along the top.
    const align = isTree ? "UL" : undefined;
    graph.setGraph({ rankdir: "LR", align, nodesep: GAP.rows, ranksep: GAP.columns, edgesep: 0 });
    graph.setDefaultEdgeLabel(() => ({}));
    for (const { id, level } of nodes) graph.setNode(id, { ...(count.get(level) > MANY ? LOW : CARD) });
    for (const edge of edges) graph.setEdge(edge.parent, edge.child);
    // In a tree the given order, strongest first, crosses no edges; only a DAG needs a better one.
    dagre.layout(graph, { disableOptimalOrderHeuristic: isTree });
    const at = new Map();
    for (const { id, level } of nodes) {
      const { y, width, height } = graph.node(id);
      at.set(id, { x: level * STEP, y: Math.round(y - height / 2), width, height, low: height < CARD.height });
    }
    if (isTree) pullUp(view, at);
    const bottom = Math.max(...[...at.values()].map(({ y, height }) => y + height));
    return { at, width: Math.max(...count.keys()) * STEP + CARD.width, height: bottom };
  }

  /** "UL" may leave a gap between siblings: move those without children up to the one above, or the parent. */
  function pullUp(view, at) {
    const ends = new Map(); // by column, where the node above ends
    for (const [id, place] of [...at].sort(([, a], [, b]) => a.y - b.y)) {
      const parent = at.get(view.parents.get(id)[0]);
      if (parent && !view.children.get(id).some((child) => at.has(child))) {
        const level = Math.round(parent.y + (parent.height - place.height) / 2);
        place.y = Math.min(place.y, Math.max(level, (ends.get(place.x) ?? 0) + GAP.rows));
      }
      ends.set(place.x, place.y + place.height);
    }
  }

  /**
   * Return the curve of each edge, as the `d` of a path: edges leave a node below one another, the lower
   * the earlier they turn, so that those to a node's children do not cross.
   */
  function routes(at, edges, widths) {
    const curves = new Map();
    for (const [parent, out] of Map.groupBy(edges, (edge) => edge.parent)) {
      const from = at.get(parent);
      out.sort((a, b) => at.get(a.child).y - at.get(b.child).y);
      const total = out.reduce((sum, edge) => sum + widths.get(edge), 0);
      const room = Math.min(1, (from.height - 8) / total);
      const x = from.x + from.width;
      let y = from.y + from.height / 2 - (total * room) / 2;
      for (const [i, edge] of out.entries()) {
        const to = at.get(edge.child);
        const start = y + (widths.get(edge) * room) / 2, end = to.y + to.height / 2;
        const turn = x + (to.x - x) * (out.length > 1 ? 0.72 - (0.44 * i) / (out.length - 1) : 0.5);
        curves.set(edge, `M${x} ${start.toFixed(1)} C${turn} ${start.toFixed(1)} ${turn} ${end} ${to.x} ${end}`);
        y += widths.get(edge) * room;
      }
    }
    return curves;
  }

  return { place, routes, STEP };
})();
