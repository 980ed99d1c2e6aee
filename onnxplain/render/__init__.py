"""Numbers -> pictures, with Pillow alone: heat maps over photos, and figures for a report."""

from onnxplain.render.blend import overlay, signed, symmetric_limit
from onnxplain.render.color import COLORMAPS, colormap
from onnxplain.render.panels import Panel, figure, png, save_png

__all__ = [
    "COLORMAPS",
    "Panel",
    "colormap",
    "figure",
    "overlay",
    "png",
    "save_png",
    "signed",
    "symmetric_limit",
]
