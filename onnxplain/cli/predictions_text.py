"""What `onnxplain predictions` prints: a line per layer, of an image or of a data set."""

from __future__ import annotations

from onnxplain.cli.text import show_prediction
from onnxplain.predictions_files import Predicted, agreement_notes, notes, unusual_text
from onnxplain.results import LayerAgreement
from onnxplain.results.predictions import shown_r2


def show_predicted(result: Predicted) -> None:
    """Print one image's prediction, a line per layer, where the decision falls, and what was written."""
    show_prediction(result)
    r = result.record
    assert r is not None
    c = r.label(int(r.classes[0]))
    tops = [r.top(i, 0, 1)[0] for i in range(len(r.layers))]
    width = max(8, *(min(len(t.label), 24) for t in tops))
    mine = f"p({c[:16]})"
    r2 = f"  {'R2':9}" if r.r2 else ""
    print(
        f"  {'':3} {'predicts':{width}} {'p':>6}  {mine:>{max(7, len(mine))}}  rank  agrees{r2}  layer"
    )
    for i, best in enumerate(tops):
        cells = f"{i + 1:3} {best.label[:24]:{width}} {best.probability:6.1%}"
        p, rank = f"{r.p[i, 0]:.1%}", int(r.ranks[i, 0])
        agrees = "yes" if r.agrees[i, 0] else "no"
        r2 = f"  {shown_r2(r.r2, i):9}" if r.r2 else ""
        print(f"  {cells}  {p:>{max(7, len(mine))}}  {rank:4}  {agrees:6}{r2}  {r.layers[i]}")
    for line in notes(r):
        print(f"  {line}")
    for layer in () if result.hybrid is None else result.hybrid.layers:
        rho = "unknown" if layer.agreement is None else f"{layer.agreement:+.2f}"
        print(
            f"  {layer.layer}: evidence ~ importance {rho}; strong here, worth little over the data: "
            f"{unusual_text(layer.unusual)}"
        )
    print("  written: " + ", ".join(result.files))


def show_agreement(a: LayerAgreement) -> None:
    """Print a line per layer, and where decisions fall."""
    print(f"{a.meta['data']}: {a.images} images, {a.labelled} labelled")
    accuracy = f"  {'accuracy':8}" if a.accuracy is not None else ""
    print(f"  {'':3} agreement{accuracy}  {'p':>5}  decided  {'R2':9}  layer")
    for i, name in enumerate(a.layers):
        accuracy = f"  {a.accuracy[i]:8.1%}" if a.accuracy is not None else ""
        r2 = shown_r2(a.r2, i)
        print(
            f"  {i + 1:3} {a.agreement[i]:9.1%}{accuracy}  {a.p[i]:5.2f}  {a.depth[i]:7}  {r2:9}  {name}"
        )
    accuracy = f"  {a.final_accuracy:8.1%}" if a.final_accuracy is not None else ""
    print(f"      {1:9.1%}{accuracy}  {'':5}  {a.depth[-1]:7}  {'':9}  the model")
    for line in agreement_notes(a):
        print(f"  {line}")
