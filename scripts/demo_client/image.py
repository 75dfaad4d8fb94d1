"""Images without a library: reads PNG, PGM and PPM; turns and resizes.

Enough for a scanned page: 8 bits a channel, not interlaced. What it cannot read it
says, with what to do.
"""

import math
import re
import zlib
from dataclasses import dataclass
from pathlib import Path


class UnreadableImage(Exception):
    """The file is no image, or of a kind that is not read here."""


@dataclass(frozen=True)
class Image:
    """Pixels, 8 bits a channel."""

    width: int
    height: int
    channels: tuple
    """Red, green and blue, each `bytes` of width x height, row by row. Grey: one object thrice."""

    def turned(self, degrees):
        """This image turned clockwise by 0, 90, 180 or 270 degrees."""
        image = self
        for _ in range(degrees // 90 % 4):
            image = image._turned_once()
        return image

    def _turned_once(self):
        # The first column, read upwards, becomes the first row.
        done = {}
        for channel in self.channels:
            if id(channel) not in done:
                columns = (channel[x :: self.width] for x in range(self.width))
                done[id(channel)] = b"".join(column[::-1] for column in columns)
        turned = tuple(done[id(channel)] for channel in self.channels)
        return Image(self.height, self.width, turned)


def read_image(path):
    """Read a PNG, PGM (P5) or PPM (P6) file."""
    content = Path(path).read_bytes()
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return read_png(content)
    if content[:2] in (b"P5", b"P6"):
        return read_pnm(content)
    raise UnreadableImage(
        f"{path} is neither PNG nor PGM nor PPM; convert it first, for example: "
        f"convert {path} page.png"
    )


def read_pnm(content):
    header = re.match(rb"P([56])(?:\s+(?:#[^\n]*\n)*)(\d+)\s+(\d+)\s+(\d+)\s", content)
    if not header or int(header[4]) != 255:
        raise UnreadableImage("only PGM and PPM with 8 bits a channel are read")
    width, height = int(header[2]), int(header[3])
    depth = 1 if header[1] == b"5" else 3
    pixels = content[header.end() :]
    if len(pixels) < width * height * depth:
        raise UnreadableImage("the file ends before its last pixel")
    return from_interleaved(width, height, pixels[: width * height * depth], depth)


# PNG colour types: how many bytes a pixel takes.
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
PNG_DEPTH = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}


def read_png(content):
    try:
        return decode_png(content)
    except (zlib.error, StopIteration, IndexError) as fault:
        raise UnreadableImage("the PNG is damaged or cut short") from fault


def decode_png(content):
    chunks = list(png_chunks(content))
    header = next(data for kind, data in chunks if kind == b"IHDR")
    width, height = (int.from_bytes(header[at : at + 4], "big") for at in (0, 4))
    bits, colour_type, interlaced = header[8], header[9], header[12]
    if bits != 8 or interlaced or colour_type not in PNG_DEPTH:
        raise UnreadableImage("only PNG with 8 bits a channel and not interlaced is read")
    depth = PNG_DEPTH[colour_type]
    packed = zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))
    pixels = unfilter(packed, width * depth, height, depth)
    if colour_type == PALETTE:
        palette = next(data for kind, data in chunks if kind == b"PLTE")
        table = palette.ljust(3 * 256, b"\0")
        return Image(width, height, tuple(pixels.translate(table[c::3]) for c in range(3)))
    if colour_type in (GREY_ALPHA, RGBA):
        pixels, depth = over_white(pixels, depth), depth - 1
    return from_interleaved(width, height, pixels, depth)


def png_chunks(content):
    """Kind and data of each chunk. Checksums are left to the reader of the whole."""
    at = 8
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + length]
        at += 12 + length


def unfilter(packed, row_bytes, height, depth):
    """Undo PNG's row filters (PNG specification, section 9)."""
    pixels, above = bytearray(), bytearray(row_bytes)
    for at in range(0, height * (row_bytes + 1), row_bytes + 1):
        kind, row = packed[at], bytearray(packed[at + 1 : at + 1 + row_bytes])
        if kind > 4 or len(row) < row_bytes:
            raise IndexError(f"row of {len(row)} bytes with filter {kind}")
        for x in range(row_bytes if kind else 0):
            left = row[x - depth] if x >= depth else 0
            corner = above[x - depth] if x >= depth else 0
            expected = predicted(kind, left, above[x], corner)
            row[x] = (row[x] + expected) & 255
        pixels += row
        above = row
    return bytes(pixels)


def predicted(kind, left, above, corner):
    """What row filter `kind` expects of a byte, from its neighbours."""
    if kind == 1:
        return left
    if kind == 2:
        return above
    if kind == 3:
        return (left + above) // 2
    # Paeth: whichever neighbour is nearest to left + above - corner, in this order.
    estimate = left + above - corner
    return min((left, above, corner), key=lambda value: abs(estimate - value))


def over_white(pixels, depth):
    """Drop the alpha channel by laying the image on white paper."""
    alpha = pixels[depth - 1 :: depth]
    flat = bytearray(len(alpha) * (depth - 1))
    for channel in range(depth - 1):
        flat[channel :: depth - 1] = bytes(
            (level * a + 255 * (255 - a)) // 255
            for level, a in zip(pixels[channel::depth], alpha, strict=True)
        )
    return bytes(flat)


def from_interleaved(width, height, pixels, depth):
    if depth == 1:
        return Image(width, height, (pixels, pixels, pixels))
    return Image(width, height, tuple(pixels[channel::3] for channel in range(3)))


def resized_middle(image, short_side, crop):
    """Red, green and blue of the middle `crop` x `crop` after resizing the short side.

    Lanczos over eight neighbours without smoothing first, as OpenCV's INTER_LANCZOS4
    does it, because the model was trained so. Only the middle is computed. Levels are
    integers 0 to 255, row by row.
    """
    scale = short_side / min(image.width, image.height)
    width, height = round(image.width * scale), round(image.height * scale)
    columns = taps(image.width, width, (width - crop) // 2, crop)
    rows = taps(image.height, height, (height - crop) // 2, crop)
    done = {}
    for channel in image.channels:
        if id(channel) not in done:
            done[id(channel)] = resample(channel, image.width, columns, rows)
    return [done[id(channel)] for channel in image.channels]


def taps(source, target, first, count):
    """For `count` target positions from `first`: eight (source index, weight) pairs each."""
    pairs = []
    for position in range(first, first + count):
        centre = (position + 0.5) * source / target - 0.5
        base = math.floor(centre)
        weights = [lanczos4(centre - (base + offset)) for offset in range(-3, 5)]
        total = sum(weights)
        indices = [min(max(base + offset, 0), source - 1) for offset in range(-3, 5)]
        pairs.append([(i, w / total) for i, w in zip(indices, weights, strict=True)])
    return pairs


def lanczos4(distance):
    if distance == 0.0:
        return 1.0
    if abs(distance) >= 4.0:
        return 0.0
    angle = math.pi * distance
    return 4.0 * math.sin(angle) * math.sin(angle / 4.0) / (angle * angle)


def resample(channel, width, columns, rows):
    """First along the rows that are needed, then down the columns."""
    narrow = {}
    for y in {index for pairs in rows for index, _ in pairs}:
        line = channel[y * width : (y + 1) * width]
        narrow[y] = [sum(line[x] * weight for x, weight in pairs) for pairs in columns]
    levels = []
    for pairs in rows:
        lines = [(narrow[y], weight) for y, weight in pairs]
        for x in range(len(columns)):
            level = sum(line[x] * weight for line, weight in lines)
            levels.append(min(max(round(level), 0), 255))
    return levels
