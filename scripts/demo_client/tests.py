"""Tests of the demo's client that need no server: python3 -m unittest demo_client.tests"""

import struct
import unittest
import zlib
from pathlib import Path

from demo_client import image, magika, orientation
from demo_client.gateway import percent, reason

PAGE = Path(__file__).resolve().parents[2] / "models" / "orientation" / "page.png"
MAGIKA_CONFIG = {
    "beg_size": 4,
    "end_size": 4,
    "block_size": 8,
    "padding_token": 256,
    "min_file_size_for_dl": 2,
    "target_labels_space": ["markdown", "randomtxt", "png"],
    "medium_confidence_threshold": 0.5,
    "thresholds": {"markdown": 0.75},
    "overwrite_map": {"randomtxt": "txt"},
}
CONTENT_TYPES = {"markdown": {"is_text": True}, "txt": {"is_text": True}, "png": {"is_text": False}}


class Images(unittest.TestCase):
    def test_a_quarter_turn_brings_the_lower_left_corner_to_the_upper_left(self):
        levels = bytes([1, 2, 3, 4, 5, 6])
        turned = image.Image(2, 3, (levels,) * 3).turned(90)
        self.assertEqual((turned.width, turned.height), (3, 2))
        self.assertEqual(list(turned.channels[0]), [5, 3, 1, 6, 4, 2])

    def test_four_quarter_turns_are_none(self):
        page = image.read_image(PAGE)
        self.assertEqual(page.turned(90).turned(270), page)
        self.assertEqual(page.turned(180).turned(180), page)

    def test_every_png_filter_is_undone(self):
        # Three rows of four grey levels, each row encoded with each filter in turn.
        rows = [[10, 20, 250, 3], [7, 7, 200, 100], [255, 0, 1, 128]]
        for kind in range(5):
            with self.subTest(filter=kind):
                got = image.read_png(png(rows, kind))
                self.assertEqual(list(got.channels[0]), [level for row in rows for level in row])

    def test_a_cut_png_is_refused(self):
        whole = png([[1, 2], [3, 4]], 0)
        for kept in range(8, len(whole) - 12 - 4):
            with self.subTest(kept=kept), self.assertRaises(image.UnreadableImage):
                image.read_png(whole[:kept])

    def test_resizing_to_the_same_size_changes_nothing(self):
        levels = bytes((x * y) % 256 for y in range(256) for x in range(256))
        middle = image.resized_middle(image.Image(256, 256, (levels,) * 3), 256, 224)
        expected = [levels[(y + 16) * 256 + x + 16] for y in range(224) for x in range(224)]
        self.assertEqual(middle[0], expected)

    def test_an_even_image_stays_even_at_any_size(self):
        for width, height in [(300, 700), (1000, 256), (90, 100)]:
            levels = bytes([137]) * (width * height)
            middle = image.resized_middle(image.Image(width, height, (levels,) * 3), 256, 224)
            self.assertEqual(set(middle[0]), {137})

    def test_the_tensor_of_a_page_is_standardised_blue_first(self):
        white = image.Image(256, 256, (bytes(65536), bytes(65536), bytes([255]) * 65536))
        values = orientation.tensor(white)
        self.assertEqual(len(values), 3 * 224 * 224)
        self.assertAlmostEqual(values[0], (1 - 0.485) / 0.229, places=5)
        self.assertAlmostEqual(values[-1], -0.406 / 0.225, places=5)


class FileTypes(unittest.TestCase):
    def test_both_ends_are_taken_without_the_whitespace_around(self):
        self.assertEqual(
            magika.features(b"  abcdefghij\n", MAGIKA_CONFIG),
            [*b"abcd", *b"ghij"],
        )

    def test_a_short_file_is_padded_after_its_beginning_and_before_its_end(self):
        self.assertEqual(magika.features(b"abc", MAGIKA_CONFIG), [97, 98, 99, 256, 256, 97, 98, 99])

    def test_too_few_bytes_are_not_for_the_model(self):
        for content in (b"", b"a", b" \n \n \n"):
            with self.assertRaises(magika.TooSmall):
                magika.features(content, MAGIKA_CONFIG)

    def test_an_unsure_label_becomes_a_generic_one(self):
        for scores, expected in [
            ([0.76, 0.2, 0.04], "markdown"),
            ([0.74, 0.2, 0.06], "txt"),
            ([0.1, 0.8, 0.1], "txt"),
            ([0.3, 0.25, 0.45], "unknown"),
            ([0.1, 0.2, 0.7], "png"),
        ]:
            with self.subTest(scores=scores):
                label, score = magika.judge(scores, MAGIKA_CONFIG, CONTENT_TYPES)
                self.assertEqual((label, score), (expected, max(scores)))


class Words(unittest.TestCase):
    def test_only_certainty_is_a_hundred_percent(self):
        for probability, expected in [
            (0.966, "97 %"),
            (0.0, "0 %"),
            (0.9999, "more than 99 %"),
            (1.0, "100 %"),
        ]:
            self.assertEqual(percent(probability), expected)

    def test_an_error_body_gives_its_reason(self):
        self.assertEqual(reason(b'{"error": "expected 4 numbers"}'), "expected 4 numbers")
        self.assertEqual(reason(b"bad gateway\n"), "bad gateway")
        self.assertEqual(reason(b""), "with no explanation")


def png(rows, kind):
    """A grey PNG whose rows are all encoded with one filter."""
    width, encoded = len(rows[0]), b""
    for y, row in enumerate(rows):
        above = rows[y - 1] if y else [0] * width
        line = []
        for x, level in enumerate(row):
            left, corner = (row[x - 1], above[x - 1]) if x else (0, 0)
            guess = [0, left, above[x], (left + above[x]) // 2, paeth(left, above[x], corner)][kind]
            line.append((level - guess) % 256)
        encoded += bytes([kind, *line])
    header = struct.pack(">IIBBBBB", width, len(rows), 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(encoded)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def paeth(left, above, corner):
    """As the PNG specification writes it down."""
    estimate = left + above - corner
    to_left, to_above, to_corner = (abs(estimate - v) for v in (left, above, corner))
    if to_left <= to_above and to_left <= to_corner:
        return left
    return above if to_above <= to_corner else corner


if __name__ == "__main__":
    unittest.main()
