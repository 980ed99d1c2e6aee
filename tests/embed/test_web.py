"""Exported explanations in a browser: onnxruntime-web (WebAssembly) gives the map that the API gives."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Route

import onnxplain as ox
from onnxplain import bundled
from onnxplain.methods.registry import explain
from tests import nets
from tests.browser import Watched
from tests.embed.plain import error

Array = np.ndarray[Any, Any]
HOST = "http://web.test/"
TYPES = {".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html"}
PAGE = f"""<!doctype html><script type="module">
import * as ort from "{HOST}ort.wasm.min.mjs";
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = "{HOST}";
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
window.explained = async (model, name, data, dims) => {{
  const session = await ort.InferenceSession.create(bytes(model), {{executionProviders: ["wasm"]}});
  const x = new ort.Tensor("float32", new Float32Array(bytes(data).buffer), dims);
  const found = await session.run({{[name]: x}});
  return Object.fromEntries(Object.entries(found).map(
    ([key, t]) => [key, {{dims: t.dims, values: Array.from(t.data, Number)}}]));
}};
</script>"""


@pytest.fixture(scope="module")
def runtime() -> Path:
    """Return the folder of onnxruntime-web's files, or skip: .ci/run installs it where there is npm."""
    folder = Path(os.environ.get("ONNXRUNTIME_WEB", "node_modules/onnxruntime-web")) / "dist"
    if not (folder / "ort.wasm.min.mjs").is_file():
        pytest.skip(
            "onnxruntime-web not found: npm install onnxruntime-web (or set ONNXRUNTIME_WEB)"
        )
    return folder


def run_in(browser: Browser, runtime: Path, file: Path, x: Array) -> dict[str, Array]:
    """Open a page with onnxruntime-web and run a file in it; nothing is asked of any network."""
    watched = Watched(browser)

    def answer(route: Route) -> None:
        name = route.request.url.removeprefix(HOST)
        body = PAGE.encode() if name == "page.html" else (runtime / Path(name).name).read_bytes()
        route.fulfill(body=body, content_type=TYPES[Path(name).suffix])

    watched.context.route(f"{HOST}**", answer)
    watched.page.goto(f"{HOST}page.html")
    watched.page.wait_for_function("typeof window.explained === 'function'")
    model, data = (base64.b64encode(b).decode() for b in (file.read_bytes(), x.tobytes()))
    name = ox.load(file, device="cpu").graph.source.name
    found = watched.page.evaluate(
        "given => window.explained(...given)", [model, name, data, list(x.shape)]
    )
    assert all(url.startswith((HOST, "blob:")) for url in watched.requests)
    assert watched.troubles == []
    watched.context.close()
    return {k: np.array(v["values"], np.float32).reshape(v["dims"]) for k, v in found.items()}


@pytest.mark.parametrize("method", ["lift_cam", "grad_cam", "positive"])
def test_the_bundled_network(method: str, browser: Browser, runtime: Path, tmp_path: Path) -> None:
    model = ox.load(bundled.model_path(), device="cpu")
    x = model.read(bundled.photos()[:2])
    compared(model, x, method, browser, runtime, tmp_path)


@pytest.mark.parametrize("method", ["grad_cam_plusplus", "xgrad_cam", "layer_cam", "gradient"])
def test_a_small_network(method: str, browser: Browser, runtime: Path, tmp_path: Path) -> None:
    compared(nets.load(nets.conv_net()), nets.images(2), method, browser, runtime, tmp_path)


def test_mobilenet(browser: Browser, runtime: Path, tmp_path: Path, shared: Path) -> None:
    path = shared / "data/models/imagenet/mobilenet_v2_torchvision_float.onnx"
    model = ox.load(path, device="cpu", preprocess="imagenet")
    x = model.read(bundled.photos()[:1])
    compared(model, x, "lift_cam", browser, runtime, tmp_path)
    compared(model, x, "grad_cam", browser, runtime, tmp_path)
    # Down to the pixels a ReLU6 whose input lies at its kink may turn over: judged as a whole.
    ox.export(model, "positive", tmp_path / "e.onnx")
    found = run_in(browser, runtime, tmp_path / "e.onnx", x)["explanation"]
    expected = ox.saliency(model, x).values
    assert np.linalg.norm(found - expected) < 0.02 * np.linalg.norm(expected)


def compared(
    model: ox.Model, x: Array, method: str, browser: Browser, runtime: Path, folder: Path
) -> None:
    """Export, run in the browser, and compare with the API."""
    ox.export(model, method, folder / "e.onnx")
    found = run_in(browser, runtime, folder / "e.onnx", x)
    expected = explain(model, x, method)
    assert error(found["explanation"], expected.values) < 1e-5
    np.testing.assert_allclose(found["heatmap"], expected.heatmap(), atol=1e-5)
    assert found["explained_class"].astype(int).tolist() == expected.classes.tolist()
