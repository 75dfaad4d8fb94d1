#!/usr/bin/env python3
"""Render page.png: a page of text, upright, for the demo's orientation model.

Usage: make_page.py [OUTPUT]       (needs pillow, version in requirements.txt)
"""

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, MARGIN = 480, 640, 40
TITLE = "A page to turn"
TEXT = """\
This page was drawn for a small
experiment. A program turns it by a
quarter, a half or three quarters of a
circle and sends the picture to a
server. The server does not read a
word of it; it looks at the lines, at
the heads and feet of the letters, and
says how far the page was turned.

Scanners meet such pages every day:
an invoice fed in sideways, a letter
lying on its head. Before anybody can
read them, somebody has to turn them
back, and it need not be a person.

Number 4711, 12 March, 3 sheets."""


def main():
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("page.png")
    page = Image.new("L", (WIDTH, HEIGHT), color=255)
    draw = ImageDraw.Draw(page)
    # The font that Pillow brings along: the same on every machine.
    draw.text((MARGIN, MARGIN), TITLE, fill=0, font=ImageFont.load_default(size=34))
    draw.multiline_text(
        (MARGIN, MARGIN + 64), TEXT, fill=0, font=ImageFont.load_default(size=22), spacing=9
    )
    page.save(output, optimize=True)
    print(f"{output}: {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
