"""Screenshots as arrays: a reader for the PNGs that Chromium writes (8 bits, RGB or RGBA)."""

import base64
import zlib

import numpy as np


def read_png(data):
    """Pixels [height, width, channels] of an 8-bit PNG without interlacing, its palette looked up."""
    position, packed, palette = 8, b"", None
    while position < len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        body = data[position + 8 : position + 8 + length]
        assert int.from_bytes(data[position + 8 + length : position + 12 + length], "big") == zlib.crc32(kind + body)
        if kind == b"IHDR":
            width, height, depth, colour = (*(int.from_bytes(body[i : i + 4], "big") for i in (0, 4)), body[8], body[9])
            assert depth == 8
        elif kind == b"PLTE":
            palette = np.frombuffer(body, np.uint8).reshape(-1, 3)
        elif kind == b"IDAT":
            packed += body
        position += 12 + length
    channels = {2: 3, 3: 1, 6: 4}[colour]
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels)
    pixels = _unfilter(lines, channels).reshape(height, width, channels)
    return palette[pixels[:, :, 0]] if palette is not None else pixels


def _unfilter(lines, channels):
    out = np.zeros((lines.shape[0] + 1, lines.shape[1] - 1 + channels), np.int64)
    for y, line in enumerate(lines):
        above, here, rest = out[y], out[y + 1], line[1:].astype(np.int64)
        if line[0] in (0, 2):
            here[channels:] = rest + (above[channels:] if line[0] == 2 else 0)
        elif line[0] == 1:
            here[channels:] = np.cumsum(rest.reshape(-1, channels), axis=0).reshape(-1)
        else:
            _predict(line[0], rest, above, here, channels)
        here &= 255
    return out[1:, channels:].astype(np.uint8)


def _predict(kind, rest, above, here, channels):
    up, row = above.tolist(), here.tolist()
    for i, value in enumerate(rest.tolist(), start=channels):
        a, b, c = row[i - channels], up[i], up[i - channels]
        if kind == 3:
            guess = (a + b) // 2
        else:
            distances = (abs(b - c), abs(a - c), abs(a + b - 2 * c))
            guess = (a, b, c)[distances.index(min(distances))]
        row[i] = (value + guess) & 255
    here[:] = row


def shoot(browser, selector):
    """What the browser shows of an element, as pixels [height, width, 3], scrolled into view first."""
    box = browser.run(
        "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center'});"
        "const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height];",
        selector,
    )
    x, y, width, height = box
    shown = {"x": x + browser.run("return scrollX"), "y": y + browser.run("return scrollY")}
    clip = {**shown, "width": width, "height": min(height, 1500), "scale": 1}
    options = {"format": "png", "clip": clip, "captureBeyondViewport": True}
    taken = browser.driver.execute_cdp_cmd("Page.captureScreenshot", options)
    return read_png(base64.b64decode(taken["data"]))[:, :, :3]


def colours(pixels):
    """How many distinct colours, and the share of the most frequent one."""
    codes = pixels.astype(np.int64) @ np.array([65536, 256, 1])
    counts = np.unique(codes, return_counts=True)[1]
    return len(counts), counts.max() / counts.sum()


def near(pixels, colour, tolerance=12):
    """The share of pixels that have this colour, nearly."""
    return float((np.abs(pixels.astype(int) - np.array(colour)).max(axis=2) <= tolerance).mean())
