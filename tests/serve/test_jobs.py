"""What waits and what is kept is bounded; jobs that nobody waits for stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from onnxplain.errors import InputError
from onnxplain.model import Model
from onnxplain.serve.api import Limits
from onnxplain.serve.jobs import Busy, Job, Jobs, Kept, Pool, new_id
from tests.serve.live import ask, client, refused, serving, until, upload, wait


@pytest.fixture
def jobs() -> Iterator[Jobs[int]]:
    """Return one thread's jobs: two may wait, three are kept."""
    made: Jobs[int] = Jobs(threads=1, waiting=2, kept=3, size=1000, size_of=lambda n: n)
    yield made
    made.close()


def test_a_job_reports_its_way(jobs: Jobs[int]) -> None:
    go = threading.Event()

    def work(job: Job[int]) -> int:
        job.report("sawing", 1, 2, 0.25)
        assert go.wait(10)
        return 7

    job = jobs.start(work)
    until(lambda: job.step == "sawing")
    assert job.status() == {
        "id": job.id, "state": "running", "step": "sawing", "at": 1, "of": 2, "part": 0.25,
        "error": None,
    }  # fmt: skip
    go.set()
    until(lambda: job.state == "done")
    assert job.result == 7
    assert jobs.get(job.id) is job


def test_more_than_may_wait_is_refused_until_there_is_room(jobs: Jobs[int]) -> None:
    go = threading.Event()
    started = [jobs.start(lambda _: int(go.wait(10))) for _ in range(3)]
    with pytest.raises(Busy):
        jobs.start(lambda _: 0)
    assert [j.state for j in started[1:]] == ["queued", "queued"]
    go.set()
    until(lambda: all(j.state == "done" for j in started))
    until(lambda: _starts(jobs))


def _starts(jobs: Jobs[int]) -> bool:
    try:
        jobs.start(lambda _: 0)
    except Busy:
        return False
    return True


def test_a_job_forgotten_while_it_waits_never_runs(jobs: Jobs[int]) -> None:
    go, ran = threading.Event(), threading.Event()
    jobs.start(lambda _: int(go.wait(10)))

    def never(_: Job[int]) -> int:
        ran.set()
        return 0

    second = jobs.start(never)
    assert jobs.forget(second.id)
    assert jobs.get(second.id) is None
    go.set()
    until(lambda: second.state == "cancelled")
    assert not ran.is_set()


def test_a_running_job_stops_at_its_next_step(jobs: Jobs[int]) -> None:
    inside, go, after = threading.Event(), threading.Event(), threading.Event()

    def work(job: Job[int]) -> int:
        inside.set()
        assert go.wait(10)
        job.report("next", 2, 2)
        after.set()
        return 0

    job = jobs.start(work)
    assert inside.wait(10)
    job.cancel()
    go.set()
    until(lambda: job.state == "cancelled")
    assert not after.is_set()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (InputError("that is no picture"), "that is no picture"),
        (MemoryError(), "memory"),
        (ZeroDivisionError("secret"), "inside the server"),
    ],
)
def test_a_failing_job_says_a_sentence(
    error: Exception, says: str, jobs: Jobs[int], caplog: pytest.LogCaptureFixture
) -> None:
    def work(_: Job[int]) -> int:
        raise error

    job = jobs.start(work)
    until(lambda: job.state == "failed")
    assert says in str(job.error)
    assert "secret" not in str(job.error)
    assert ("ZeroDivisionError" in caplog.text) == isinstance(error, ZeroDivisionError)


# --- what is kept ---------------------------------------------------------------------------------
def test_only_what_was_used_last_is_kept() -> None:
    forgotten: list[str] = []
    kept = Kept[str](3, 1000, forgotten.append)
    for name in "abc":
        kept.add(name, name)
    assert kept.get("a") == "a"  # used: b is the oldest now
    kept.add("d", "d")
    assert (forgotten, kept.get("b"), len(kept)) == (["b"], None, 3)


def test_kept_things_are_bounded_in_bytes() -> None:
    kept = Kept[str](10, 100)
    kept.add("a", "a", 60)
    kept.add("b", "b", 30)
    kept.resize("b", 50)
    assert (kept.get("a"), kept.get("b")) == (None, "b")
    kept.add("huge", "huge", 10_000)
    assert (kept.get("b"), kept.get("huge")) == (None, "huge")
    kept.resize("gone", 5)


def test_ids_cannot_be_guessed() -> None:
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert min(map(len, ids)) >= 22  # 128 bits


def test_a_closed_pool_drops_what_waits() -> None:
    pool, go = Pool("test", 1, 5), threading.Event()
    running, waiting = pool.submit(lambda: go.wait(10)), pool.submit(lambda: True)
    pool.close()
    go.set()
    assert running.result(10)
    until(waiting.cancelled)


# --- under the server -----------------------------------------------------------------------------
def test_a_full_queue_answers_503_and_the_rest_goes_on(model: Model, held: threading.Event) -> None:
    with serving(model, Limits(threads=1, waiting=1)) as address, client(address) as http:
        question = {"image": upload(http), "methods": ["gradient"]}
        jobs = [http.post("/api/jobs", json=question).json()["id"] for _ in range(2)]
        answer = http.post("/api/jobs", json=question)
        refused(answer, 503, "busy")
        assert int(answer.headers["retry-after"]) > 0
        states = {http.get(f"/api/jobs/{job}").json()["state"] for job in jobs}
        assert states == {"running", "queued"}
        assert http.get("/").status_code == 200  # the event loop waits for nobody
        upload(http)
        held.set()
        assert [wait(http, job)["state"] for job in jobs] == ["done", "done"]


def test_a_job_deleted_while_it_runs_stops(model: Model, held: threading.Event) -> None:
    with serving(model, Limits(threads=1)) as address, client(address) as http:
        image = upload(http)
        question = {"image": image, "methods": ["gradient"]}
        job = http.post("/api/jobs", json=question).json()["id"]
        until(lambda: http.get(f"/api/jobs/{job}").json()["step"] == "waiting")
        http.delete(f"/api/jobs/{job}")
        held.set()
        refused(http.get(f"/api/jobs/{job}"), 404)
        assert ask(http, image, "gradient")["state"] == "done"


def test_a_decomposition_says_its_level_and_stops_between_levels(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, float]] = []
    report = Job.report

    def listening(job: Job[Any], step: str, at: int, of: int, part: float = 0.0) -> None:
        told.append((step, part))
        if len(told) == 9:  # the second job, before its second level
            job.cancel()
        report(job, step, at, of, part)

    monkeypatch.setattr(Job, "report", listening)
    with serving(model, Limits(threads=1)) as address, client(address) as http:
        image = upload(http)
        first, second = (ask(http, image, "decompose", depth=2) for _ in range(2))
    way = [
        ("starting", 0), ("decompose", 0), ("decompose: level 1 of 2", 0),
        ("decompose: level 2 of 2", pytest.approx(1 / 3)), ("decompose: pixels", pytest.approx(2 / 3)),
    ]  # fmt: skip
    assert told == way + way[:4]
    assert (first["state"], second["state"]) == ("done", "cancelled")


def test_old_pictures_and_results_make_room(model: Model, http: httpx.Client) -> None:
    with serving(model, Limits(images=2, jobs=2)) as address, client(address) as http:
        images = [upload(http) for _ in range(3)]
        gone = http.post("/api/jobs", json={"image": images[0], "methods": ["gradient"]})
        refused(gone, 404, "forgotten")
        jobs = [ask(http, images[2], "gradient")["id"] for _ in range(3)]
        codes = [http.get(f"/api/jobs/{job}/files/gradient.npz").status_code for job in jobs]
        assert codes == [404, 200, 200]


def test_results_are_bounded_in_bytes(model: Model) -> None:
    with serving(model, Limits(memory=200_000)) as address, client(address) as http:
        image = upload(http)
        jobs = [ask(http, image, "decompose")["id"] for _ in range(4)]
        codes = [http.get(f"/api/jobs/{job}").status_code for job in jobs]
        assert codes[0] == 404
        assert codes[-1] == 200
