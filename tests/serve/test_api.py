"""The API as a client meets it: pictures in, jobs, results and files out."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import networkx as nx
import numpy as np
import pytest
from PIL import Image

import onnxplain as ox
from onnxplain.hierarchy.store import load as load_hierarchy
from onnxplain.methods.registry import METHODS, explain
from onnxplain.model import Model
from onnxplain.results import Explanation
from onnxplain.serve.jobs import Jobs
from tests import nets
from tests.serve.live import CAT, ask, client, refused, serving, until, upload


def files(http: httpx.Client, job: dict[str, Any], *names: str) -> list[bytes]:
    """Download files of a job."""
    answers = [http.get(f"/api/jobs/{job['id']}/files/{name}") for name in names]
    assert [answer.status_code for answer in answers] == [200] * len(names)
    return [answer.content for answer in answers]


def record(http: httpx.Client, job: dict[str, Any], method: str, folder: Path) -> Explanation:
    """Download a method's record and read it as `Record.load` does."""
    names = (f"{method}.json", f"{method}.npz")
    for name, data in zip(names, files(http, job, *names), strict=True):
        (folder / name).write_bytes(data)
    return Explanation.load(folder, method)


# --- what there is to ask -------------------------------------------------------------------------
def test_the_model_is_described(http: httpx.Client, model: Model) -> None:
    said = http.get("/api/model").json()
    assert said["name"] == "vgg_cifar10.onnx"  # without the folder it lies in
    assert said["labels"] == list(model.labels or ())
    assert [m["name"] for m in said["methods"]] == ["decompose", *METHODS]
    assert [x["name"] for x in said["layers"] if x["default_cam"]] == [model.default_layer.name]  # type: ignore[union-attr]
    chosen = [x["name"] for x in said["layers"] if x["default_level"]]
    assert chosen == [layer.name for layer in reversed(model.graph.levels)]


def test_the_prediction_is_the_models_own(http: httpx.Client, model: Model) -> None:
    said = http.post("/api/images", content=CAT.read_bytes()).json()
    expected = model.predict(model.read([CAT])).top(5)[0]
    assert said["top"] == [ranked._asdict() for ranked in expected]
    assert (said["width"], said["height"]) == (32, 32)


# --- answers --------------------------------------------------------------------------------------
@pytest.mark.parametrize("method", METHODS)
def test_every_method_gives_the_record_it_gives_in_python(
    method: str, http: httpx.Client, model: Model, tmp_path: Path
) -> None:
    job = ask(http, upload(http), method, target="5")
    assert job["state"] == "done", job
    found = record(http, job, method, tmp_path)
    assert found == explain(model, model.read([CAT]), method, 5)
    for name in (f"{method}.png", f"{method}.tile.png"):
        with Image.open(io.BytesIO(files(http, job, name)[0])) as picture:
            colours = np.asarray(picture).reshape(-1, 3)
        assert len(np.unique(colours, axis=0)) > 100, "the map is drawn in colour"
    (told,) = job["results"]["methods"]
    assert told["label"] == "dog"
    assert told["score"] == pytest.approx(found.scores[0])


def test_a_hierarchy_in_every_format(http: httpx.Client, model: Model, tmp_path: Path) -> None:
    job = ask(http, upload(http), "decompose", target="cat-dog", seed="root", top_k=2, depth=2)
    expected = ox.decompose(
        model, model.read([CAT]), ox.Target.contrast(3, 5), top_k=2, seed="root", depth=2
    )
    names = job["results"]["files"]
    kinds = {"json", "npz", "graphml", "gexf", "dot", "html"}
    assert {name.removeprefix("hierarchy.") for name in names} == kinds
    for name, data in zip(names, files(http, job, *names), strict=True):
        (tmp_path / name).write_bytes(data)
    found = load_hierarchy(tmp_path)
    assert [n.id for n in found] == [n.id for n in expected]
    for a, b in zip(found, expected, strict=True):
        assert a.contribution == b.contribution
        assert a.map is b.map is None or np.array_equal(a.map, b.map)  # type: ignore[arg-type]
    assert set(nx.read_graphml(tmp_path / "hierarchy.graphml")) == set(expected.graph)
    assert "cat" in (tmp_path / "hierarchy.html").read_text(encoding="utf-8")
    assert (tmp_path / "hierarchy.dot").read_text(encoding="utf-8").startswith("digraph")


def test_a_job_that_is_done_at_once_says_so_with_its_results(
    http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Jobs.start

    def and_wait(jobs: Jobs[Any], work: Any) -> Any:
        job = start(jobs, work)
        until(lambda: job.state not in ("queued", "running"))
        return job

    monkeypatch.setattr(Jobs, "start", and_wait)
    said = http.post("/api/jobs", json={"image": upload(http), "methods": ["grad_cam"]}).json()
    assert said["state"] == "done"
    assert said == http.get(f"/api/jobs/{said['id']}").json()
    assert [one["method"] for one in said["results"]["methods"]] == ["grad_cam"]


def test_what_the_viewer_shows(http: httpx.Client) -> None:
    job = ask(http, upload(http), "decompose", "lift_cam", target="cat", compare="dog")
    said = http.get(f"/api/jobs/{job['id']}/document").json()
    assert [view["label"] for view in said["views"]] == ["cat", "dog"]
    assert [entry["name"] for entry in said["maps"]] == ["lift-cam"]
    assert said["top"][0]["label"] == "cat"


def test_layers_are_chosen_by_name(http: httpx.Client, model: Model) -> None:
    cuts = [layer.name for layer in model.layers if layer.cut and layer.spatial]
    first, last = cuts[0], cuts[-1]
    job = ask(http, upload(http), "decompose", "grad_cam", layers=[first, last], layer=first)
    view = http.get(f"/api/jobs/{job['id']}/document").json()["views"][0]
    assert [column["layer"] for column in view["columns"][1:]] == [last, first]
    assert job["results"]["methods"][0]["layer"] == first


def test_eight_at_once_answer_as_one_by_one(model: Model) -> None:
    """With cold caches: the programs are made while others wait for the same ones."""
    fresh = ox.load(model.path, device="cpu", threads=1)
    methods = ("decompose", "lift_cam", "positive")

    def answer(http: httpx.Client, image: str, target: int) -> list[bytes]:
        job = ask(http, image, *methods, target=str(target))
        assert job["state"] == "done", job
        return files(http, job, "hierarchy.npz", "hierarchy.json", "lift_cam.npz", "positive.npz")

    with serving(fresh) as address, client(address) as http, ThreadPoolExecutor(8) as pool:
        image = upload(http)
        together = list(pool.map(lambda target: answer(http, image, target), range(8)))
    with serving(model) as address, client(address) as http:
        image = upload(http)
        alone = [answer(http, image, target) for target in range(8)]
    assert together == alone
    assert len({json.dumps([part.hex() for part in parts]) for parts in alone}) == 8


def test_a_model_that_does_not_classify(tmp_path: Path) -> None:
    proto = nets.build(
        "(float[N, 3, 16, 16] x) => (float[N, 1, 16, 16] y)",
        "a = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(a) y = Conv<pads = [1, 1, 1, 1]>(r, v)",
        w=(4, 3, 3, 3), v=(1, 4, 3, 3),
    )  # fmt: skip
    with serving(nets.load(proto)) as address, client(address) as http:
        image = http.post("/api/images", content=CAT.read_bytes()).json()
        assert image["top"] == []
        job = ask(http, image["id"], "gradient", target="y[0,4,5]")
        assert job["state"] == "done", job
        assert record(http, job, "gradient", tmp_path).classes[0] == -1


# --- what goes wrong ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"methods": []}, "methods"),
        ({"methods": ["lift_cam", "lift_cam"]}, "once"),
        ({"methods": ["../../etc/passwd"]}, "choose from decompose"),
        ({"methods": ["gradient"] * 1000}, "methods"),
        ({"top_k": 1000}, "top_k"),
        ({"top_k": True}, "top_k"),
        ({"top_k": "3"}, "top_k"),
        ({"depth": 0}, "depth"),
        ({"seed": "sideways"}, "seed"),
        ({"layers": []}, "layers"),
        ({"layers": ["a"] * 33}, "layers"),
        ({"target": "x" * 1001}, "target"),
        ({"path": "/etc/passwd"}, "path"),
    ],
)
def test_a_question_out_of_bounds(change: dict[str, Any], says: str, http: httpx.Client) -> None:
    question = {"image": "x", "methods": ["gradient"], **change}
    refused(http.post("/api/jobs", json=question), 422, says)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"NaN"])
def test_a_question_that_is_no_question(body: bytes, http: httpx.Client) -> None:
    refused(http.post("/api/jobs", content=body), 422)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"target": "unicorn"}, "unicorn"),
        ({"target": "10"}, "class 10 does not exist"),
        ({"target": "9" * 1000}, "class"),
        ({"target": "similar:/etc/passwd"}, "is none of"),
        ({"compare": "unicorn"}, "unicorn"),
        ({"layers": ["conv99"], "layer": "conv99"}, "conv99"),
        ({"target": "y[0,1]"}, "output"),
    ],
)
def test_a_job_that_fails_says_why(change: dict[str, Any], says: str, http: httpx.Client) -> None:
    job = ask(http, upload(http), "decompose", "grad_cam", **change)
    assert job["state"] == "failed"
    assert says in job["error"]
    assert len(job["error"]) < 400
    assert str(CAT.parent.parent) not in job["error"], "folders of this machine are not told"
    refused(http.get(f"/api/jobs/{job['id']}/document"), 409)
    refused(http.get(f"/api/jobs/{job['id']}/files/grad_cam.png"), 409)


def test_a_method_that_cannot_answer_does_not_stop_the_others(http: httpx.Client) -> None:
    methods = ("decompose", "active", "grad_cam", "gradient")
    job = ask(http, upload(http), *methods, target="cat-dog", layer="conv99")
    assert job["state"] == "done"
    assert set(job["results"]["refused"]) == {"active", "grad_cam"}
    assert "classes" in job["results"]["refused"]["active"]
    assert "conv99" in job["results"]["refused"]["grad_cam"]
    assert [m["method"] for m in job["results"]["methods"]] == ["gradient"]
    assert job["results"]["hierarchy"] is True


def test_what_is_unknown(http: httpx.Client) -> None:
    refused(http.post("/api/jobs", json={"image": "x", "methods": ["gradient"]}), 404, "picture")
    refused(http.get("/api/jobs/x"), 404, "job")
    refused(http.get("/api/nothing"), 404)
    refused(http.put("/api/jobs"), 405)
    job = ask(http, upload(http), "gradient")
    for name in ("lift_cam.png", "hierarchy.json", "..%2F..%2Fetc%2Fpasswd", "gradient.exe"):
        refused(http.get(f"/api/jobs/{job['id']}/files/{name}"), 404)
    refused(http.get(f"/api/jobs/{job['id']}/document"), 404, "hierarchy")


def test_a_job_can_be_forgotten(http: httpx.Client) -> None:
    job = ask(http, upload(http), "gradient")
    assert http.delete(f"/api/jobs/{job['id']}").json() == {"forgotten": True}
    refused(http.get(f"/api/jobs/{job['id']}"), 404)
    refused(http.get(f"/api/jobs/{job['id']}/files/gradient.npz"), 404)
    assert http.delete(f"/api/jobs/{job['id']}").json() == {"forgotten": False}


def test_files_are_saved_not_shown(http: httpx.Client) -> None:
    job = ask(http, upload(http), "decompose")
    answer = http.get(f"/api/jobs/{job['id']}/files/hierarchy.html")
    assert answer.headers["content-disposition"] == 'attachment; filename="hierarchy.html"'
