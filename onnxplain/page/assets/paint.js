"use strict";
// Heat over the picture, as onnxplain's own figures have it (render/blend.py): the colour's opacity grows
// with the heat, and where there is none the photo stays, a little darker and less colourful.
OnnxplainViewer.paint = (() => {
  const TINY = 96; // pixels; up to here a picture is enlarged in whole, sharp pixels
  const LUMA = [0.299, 0.587, 0.114];

  const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

  async function decoded(source) {
    const image = new Image();
    image.src = source;
    await image.decode();
    return image;
  }

  function pixelsOf(image) {
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, canvas.width, canvas.height);
  }

  /** Decode a map of the document: {values 0..1 (-1..1 where signed), width, height, signed}. */
  async function decodedMap(map) {
    if (!map) return null;
    const { data, width, height } = pixelsOf(await decoded(map.src));
    const values = new Float32Array(width * height);
    for (let i = 0; i < values.length; i++) {
      values[i] = map.signed ? (data[4 * i] - 128) / 127 : data[4 * i] / 255;
    }
    return { values, width, height, signed: map.signed, max: map.max };
  }

  /** Weights of linear interpolation with half-pixel centres: positions at `count` places of [from, to). */
  function along(samples, size, from, to, count) {
    const low = new Int32Array(count), high = new Int32Array(count), part = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      const inPicture = from + ((i + 0.5) / count) * (to - from);
      const at = Math.min(Math.max((inPicture * samples) / size - 0.5, 0), samples - 1);
      low[i] = Math.floor(at);
      high[i] = Math.min(low[i] + 1, samples - 1);
      part[i] = at - low[i];
    }
    return { low, high, part };
  }

  function enlarged(map, size, box, width, height) {
    const rows = along(map.height, size.height, box[0], box[2], height);
    const columns = along(map.width, size.width, box[1], box[3], width);
    const out = new Float32Array(width * height);
    for (let y = 0; y < height; y++) {
      const up = rows.low[y] * map.width, down = rows.high[y] * map.width, v = rows.part[y];
      for (let x = 0; x < width; x++) {
        const l = columns.low[x], r = columns.high[x], u = columns.part[x];
        const top = map.values[up + l] * (1 - u) + map.values[up + r] * u;
        const bottom = map.values[down + l] * (1 - u) + map.values[down + r] * u;
        out[y * width + x] = top * (1 - v) + bottom * v;
      }
    }
    return out;
  }

  // How the photo steps back below the colours: share of its colour taken out, its weight, light added.
  const LOOKS = {
    crop: { mute: 0.15, keep: 1, lift: 0, alpha: 0.6 }, // small: what it shows matters most
    whole: { mute: 0.55, keep: 0.9, lift: 0, alpha: 0.85 },
    signed: { mute: 0.9, keep: 0.55, lift: 115, alpha: 0.9 },
  };
  const LEVELS = 1025; // of heat; powers are slow, and a picture has many pixels

  /** Opacity and row of the colour table of each level: 0..1, or -1..1 where signed. */
  function shades(look) {
    const opacity = new Float32Array(LEVELS), row = new Uint8Array(LEVELS), { alpha } = LOOKS[look];
    for (let i = 0; i < LEVELS; i++) {
      const w = look === "signed" ? (2 * i) / (LEVELS - 1) - 1 : i / (LEVELS - 1), size = Math.abs(w);
      opacity[i] = alpha * (look === "signed" ? size ** 0.8 : Math.min(1.4 * w, 1) ** 1.2);
      row[i] = Math.round(look === "signed" ? 127.5 * (Math.sign(w) * (0.4 + 0.6 * size) + 1) : 255 * w);
    }
    return { opacity, row };
  }
  const SHADES = Object.fromEntries(Object.keys(LOOKS).map((look) => [look, shades(look)]));

  function blend(photo, heat, table, look) {
    const { mute, keep, lift } = LOOKS[look], { opacity, row } = SHADES[look];
    const scale = (LEVELS - 1) / (look === "signed" ? 2 : 1), zero = look === "signed" ? 1 : 0;
    for (let i = 0, p = 0; i < heat.length; i++, p += 4) {
      const grey = mute * (LUMA[0] * photo[p] + LUMA[1] * photo[p + 1] + LUMA[2] * photo[p + 2]);
      const level = Math.round((heat[i] + zero) * scale), above = 3 * row[level], o = opacity[level];
      for (let c = 0; c < 3; c++) {
        const below = keep * ((1 - mute) * photo[p + c] + grey) + lift;
        photo[p + c] = below + o * (table[above + c] - below);
      }
    }
  }

  /** The part of the picture to draw for a box: the box widened to the canvas's proportions, inside the picture. */
  function framed(box, size, aspect) {
    let height = box[2] - box[0], width = box[3] - box[1];
    if (width < height * aspect) width = Math.min(height * aspect, size.width);
    else height = Math.min(width / aspect, size.height);
    const top = Math.min(Math.max((box[0] + box[2] - height) / 2, 0), size.height - height);
    const left = Math.min(Math.max((box[1] + box[3] - width) / 2, 0), size.width - width);
    return [top, left, top + height, left + width];
  }

  /**
   * Draw a part of the picture with heat over it; without a picture the heat alone.
   * region: [top, left, bottom, right] in the picture's pixels; palette: 256 x RGB; look: of LOOKS.
   */
  function draw(canvas, picture, region, map, palette, look) {
    const { width, height } = canvas;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "#6b7280"; // what lies below heat that has no picture
    context.fillRect(0, 0, width, height);
    const size = picture ?? { width: map?.width ?? 1, height: map?.height ?? 1 };
    if (picture) {
      const [top, left, bottom, right] = region;
      const x = picture.image.naturalWidth / picture.width, y = picture.image.naturalHeight / picture.height;
      context.imageSmoothingEnabled = Math.max(picture.width, picture.height) > TINY;
      context.imageSmoothingQuality = "high";
      context.drawImage(picture.image, left * x, top * y, (right - left) * x, (bottom - top) * y, 0, 0, width, height);
    }
    if (!map) return;
    const photo = context.getImageData(0, 0, width, height);
    blend(photo.data, enlarged(map, size, region, width, height), palette, map.signed ? "signed" : look);
    context.putImageData(photo, 0, 0);
  }

  /** Frame a box on a canvas that shows the whole picture: light on dark, to be seen on any photo. */
  function frame(canvas, picture, box) {
    const context = canvas.getContext("2d");
    const x = canvas.width / picture.width, y = canvas.height / picture.height;
    for (const [line, colour] of [[5, "#000c"], [2, "#fff"]]) {
      context.lineWidth = (line * canvas.width) / 640;
      context.strokeStyle = colour;
      context.strokeRect(box[1] * x, box[0] * y, (box[3] - box[1]) * x, (box[2] - box[0]) * y);
    }
  }

  return { bytes, decoded, decodedMap, framed, draw, frame };
})();
