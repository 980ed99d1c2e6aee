"""Float64 kernels of the ops that read between pixels; onnx's reference rounds positions to float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from onnx.reference.op_run import OpRun

Array = np.ndarray[Any, Any]


class GridSample(OpRun):
    op_domain = ""

    def _run(self, x, grid, mode="linear", padding_mode="zeros", align_corners=0):
        kernel = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
        tensors = (torch.tensor(v) for v in (x, grid))
        y = F.grid_sample(*tensors, kernel, padding_mode, align_corners=bool(align_corners))
        return (y.numpy(),)


class AffineGrid(OpRun):
    op_domain = ""

    def _run(self, theta, size, align_corners=0):
        grid = F.affine_grid(torch.tensor(theta), size.tolist(), align_corners=bool(align_corners))
        return (grid.numpy(),)


class DeformConv(OpRun):
    """One window after the other, as the text of the standard says."""

    op_domain = ""

    def _run(self, x, w, offset, b=None, mask=None, **attrs):
        attrs = {k: v for k, v in attrs.items() if v is not None}
        group, parts = attrs.get("group", 1), attrs.get("offset_group", 1)
        strides, dilations = (attrs.get(k, [1, 1]) for k in ("strides", "dilations"))
        pads, (kh, kw) = attrs.get("pads", [0] * 4), w.shape[2:]
        n, channels, out = len(x), x.shape[1], offset.shape[2:]
        offset = offset.reshape(n, parts, kh * kw, 2, *out)
        mask = np.ones((n, parts, kh * kw, *out)) if mask is None else mask
        mask = mask.reshape(n, parts, kh * kw, *out)
        y = np.zeros((n, len(w), *out)) + (0 if b is None else b.reshape(-1, 1, 1))
        for image, o, c in np.ndindex(n, len(w), w.shape[1]):
            channel = o // (len(w) // group) * w.shape[1] + c
            part = channel // (channels // parts)
            for tap, i, j in np.ndindex(kh * kw, *out):
                shift = offset[image, part, tap, :, i, j]
                row = i * strides[0] - pads[0] + tap // kw * dilations[0] + shift[0]
                column = j * strides[1] - pads[1] + tap % kw * dilations[1] + shift[1]
                value = between(x[image, channel], row, column) * mask[image, part, tap, i, j]
                y[image, o, i, j] += w[o, c, tap // kw, tap % kw] * value
        return (y,)


class RoiAlign(OpRun):
    """One sample after the other, as He et al. 2017 describe it."""

    op_domain = ""

    def _run(self, x, rois, images, **attrs):
        attrs = {k: v for k, v in attrs.items() if v is not None}
        bins = [attrs.get(f"output_{k}", 1) for k in ("height", "width")]
        half = attrs.get("coordinate_transformation_mode", "half_pixel") == "half_pixel"
        y = np.zeros((len(rois), x.shape[1], *bins))
        for r, (box, image) in enumerate(zip(rois, images, strict=True)):
            left, top, right, bottom = box * attrs.get("spatial_scale", 1.0) - 0.5 * half
            size = np.array([bottom - top, right - left])
            size = (size if half else np.maximum(size, 1)) / bins
            wanted = attrs.get("sampling_ratio", 0)
            counts = [wanted or max(int(np.ceil(s)), 1) for s in size]
            for c, i, j in np.ndindex(x.shape[1], *bins):
                total = 0.0
                for a, b in np.ndindex(*counts):
                    row = top + size[0] * (i + (a + 0.5) / counts[0])
                    column = left + size[1] * (j + (b + 0.5) / counts[1])
                    if -1 <= row <= x.shape[2] and -1 <= column <= x.shape[3]:
                        inside = np.clip((row, column), 0, np.array(x.shape[2:]) - 1)
                        total += between(x[image, c], *inside)
                y[r, c, i, j] = total / np.prod(counts)
        return (y,)


def between(plane: Array, row: float, column: float) -> float:
    """Interpolate a plane linearly; beyond it are zeros."""
    total = 0.0
    for i in (int(np.floor(row)), int(np.floor(row)) + 1):
        for j in (int(np.floor(column)), int(np.floor(column)) + 1):
            if 0 <= i < plane.shape[0] and 0 <= j < plane.shape[1]:
                total += (1 - abs(row - i)) * (1 - abs(column - j)) * plane[i, j]
    return total


SAMPLING = [GridSample, AffineGrid, DeformConv, RoiAlign]
