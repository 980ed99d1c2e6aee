"""Time and memory of every method beside the plain forward and other tools: `python -m tools.bench`."""
