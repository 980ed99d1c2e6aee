"""Passes over data of any size: what is read, how the work is cut and put together, where it runs.

- source: a row of items to read; items: one of them -> model input
- folders, listings, stored, shards: the kinds of sources; kinds: which of them a user's data is
- labels: what the data call a class -> the model's number of it
- job: map(batch) -> partial, merge(partials); run: one pass, kept on disk as it goes on
- local, on_ray: who does the work
- moments: counts, means and co-moments that merge
"""

from onnxplain.dataset.job import Batch, Job, Partial
from onnxplain.dataset.kinds import Data, open_data
from onnxplain.dataset.moments import Moments
from onnxplain.dataset.run import Found, Run, take
from onnxplain.dataset.source import First, Item, Source, key_of_files
from onnxplain.dataset.worker import Skipped

__all__ = [
    "Batch",
    "Data",
    "First",
    "Found",
    "Item",
    "Job",
    "Moments",
    "Partial",
    "Run",
    "Skipped",
    "Source",
    "key_of_files",
    "open_data",
    "take",
]
