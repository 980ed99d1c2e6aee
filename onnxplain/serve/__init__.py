"""The live page: a small server around one model. `pip install "onnxplain[serve]"` brings what it needs.

- work: what is asked of a picture, and the answer
- jobs: threads that answer, and what is kept
- api: the addresses; guard: who may call them
- run: the server process
"""

from onnxplain.serve.run import serve

__all__ = ["serve"]
