"""The server's addresses. Nothing here computes: work goes to threads, the event loop only waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from onnxplain.errors import OnnxplainError
from onnxplain.model import Model
from onnxplain.serve.asked import Asked, sentence
from onnxplain.serve.describe import about, about_answer, about_picture, live_page, told
from onnxplain.serve.downloads import make
from onnxplain.serve.guard import Guard, TooLarge, read_body
from onnxplain.serve.jobs import Busy, Job, Jobs, Kept, Pool, new_id
from onnxplain.serve.work import Answer, Seen, answer, document, look


@dataclass(frozen=True)
class Limits:
    """How much the server takes on.

    Attributes:
        upload, question: bytes of an uploaded file, and of a question in JSON.
        uploads: that are received at the same time.
        seconds: that a client may take to send one.
        threads, waiting: jobs that run and that wait at most; one more is refused.
        images, jobs, memory: pictures and jobs kept, and the bytes they may take (each kind).
    """

    upload: int = 20 << 20
    question: int = 1 << 20
    uploads: int = 8
    seconds: float = 60
    threads: int = 2
    waiting: int = 16
    images: int = 64
    jobs: int = 32
    memory: int = 512 << 20


class Service:
    """One model, the pictures shown to it and the jobs about them."""

    def __init__(self, model: Model, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.images: Kept[Seen] = Kept(limits.images, limits.memory)
        self.jobs: Jobs[Answer] = Jobs(
            limits.threads, limits.waiting, limits.jobs, limits.memory, lambda found: found.size
        )
        # One thread: a picture of 89 million pixels takes a quarter of a gigabyte while it is decoded.
        self.looking = Pool("onnxplain-look", 1, limits.uploads)
        self.uploading = 0

    def close(self) -> None:
        """Cancel what runs and forget everything."""
        self.jobs.close()
        self.looking.close()
        self.images.clear()

    async def receive(self, request: Request) -> bytes:
        """Read an upload; raises Busy, TooLarge, TimeoutError."""
        if self.uploading >= self.limits.uploads:
            raise Busy
        self.uploading += 1
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await read_body(request.stream(), self.limits.upload)
        finally:
            self.uploading -= 1

    def finished(self, name: str) -> Answer:
        """Return what came of a job; raises HTTPException (404, 409)."""
        job = self.known(name)
        if job.result is None:
            raise HTTPException(409, "this job has no result (yet)")
        return job.result

    def known(self, name: str) -> Job[Answer]:
        """Return a job; raises HTTPException (404)."""
        job = self.jobs.get(name)
        if job is None:
            raise HTTPException(404, "this job is unknown, or was forgotten: ask again")
        return job

    def seen(self, name: str) -> Seen:
        """Return a picture; raises HTTPException (404)."""
        found = self.images.get(name)
        if found is None:
            raise HTTPException(404, "this picture is unknown, or was forgotten: choose it again")
        return found


def create_app(model: Model, names: frozenset[str], limits: Limits | None = None) -> ASGIApp:
    """Return the application for a model; `names` are the host names it answers to, beside IP addresses."""
    service = Service(model, limits or Limits())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    # no generated documentation: its pages load scripts from elsewhere
    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _add_errors(app, service)
    _add_page(app, service)
    _add_images(app, service)
    _add_jobs(app, service)
    return Guard(app, names)  # outermost: it sees errors too


def _add_page(app: FastAPI, service: Service) -> None:
    page = live_page()
    model = about(service.model, service.limits.upload)

    @app.get("/")
    async def index() -> HTMLResponse:
        # the page's own policy is inside it; this one adds what only a header can say
        return HTMLResponse(page, headers={"Content-Security-Policy": "frame-ancestors 'none'"})

    @app.get("/api/model")
    async def about_model() -> dict[str, Any]:
        return model


def _add_images(app: FastAPI, service: Service) -> None:
    @app.post("/api/images", status_code=201)
    async def upload(request: Request) -> dict[str, Any]:
        data = await service.receive(request)
        if not data:
            raise HTTPException(400, "the file is empty")
        seen = await asyncio.wrap_future(service.looking.submit(partial(look, service.model, data)))
        name = new_id()
        service.images.add(name, seen, seen.size)
        return {"id": name, **about_picture(seen)}


def _add_jobs(app: FastAPI, service: Service) -> None:
    @app.post("/api/jobs", status_code=202)
    async def ask(request: Request) -> dict[str, Any]:
        async with asyncio.timeout(service.limits.seconds):
            body = await read_body(request.stream(), service.limits.question)
        asked = Asked.model_validate_json(body)
        seen = service.seen(asked.image)
        job = service.jobs.start(lambda job: answer(service.model, seen, asked, job.report))
        return said(job)  # a quick one is done by now

    @app.get("/api/jobs/{name}")
    async def status(name: str) -> dict[str, Any]:
        return said(service.known(name))

    def said(job: Job[Any]) -> dict[str, Any]:
        state, found = job.status(), job.result  # in this order: what is done has its result
        results = None if found is None else about_answer(service.model, found)
        error = None if job.error is None else told(service.model, job.error)
        return {**state, "error": error, "results": results}

    @app.delete("/api/jobs/{name}")
    async def forget(name: str) -> dict[str, Any]:
        return {"forgotten": service.jobs.forget(name)}

    @app.get("/api/jobs/{name}/document")
    def shown(name: str) -> JSONResponse:
        found = document(service.finished(name))
        if found is None:
            raise HTTPException(404, "this job was not asked for a hierarchy")
        return JSONResponse(found)

    @app.get("/api/jobs/{name}/files/{file}")
    def download(name: str, file: str) -> Response:
        made = make(service.model, service.finished(name), file)
        if made is None:
            raise HTTPException(404, "this job has no such file")
        # `made.name` is one of ours, whatever the address says
        return Response(made.data, media_type=made.kind, headers=made.headers)


def _add_errors(app: FastAPI, service: Service) -> None:
    """Answer every error with one short sentence in JSON."""

    def says(status: int, text: Callable[[Any], str]) -> Callable[..., Awaitable[JSONResponse]]:
        async def handler(_: Request, error: Exception) -> JSONResponse:
            wait = {"Retry-After": "2"} if status == 503 else None
            code = error.status_code if isinstance(error, HTTPException) else status
            return JSONResponse({"error": text(error)}, code, wait)

        return handler

    limit = service.limits.upload / (1 << 20)
    app.add_exception_handler(HTTPException, says(0, lambda e: str(e.detail)))
    app.add_exception_handler(OnnxplainError, says(422, lambda e: told(service.model, str(e))))
    app.add_exception_handler(ValidationError, says(422, sentence))
    app.add_exception_handler(Busy, says(503, lambda _: "the server is busy: try again soon"))
    app.add_exception_handler(ClientDisconnect, says(400, lambda _: "the upload broke off"))
    app.add_exception_handler(
        TooLarge, says(413, lambda _: f"the file is too large: at most {limit:.3g} MB")
    )
    app.add_exception_handler(TimeoutError, says(408, lambda _: "the upload took too long"))
    app.add_exception_handler(
        Exception, says(500, lambda _: "this failed inside the server, whose terminal says more")
    )
