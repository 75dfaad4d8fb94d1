"""The documentation lists the differences that the tests expect, and no others."""

import re
from pathlib import Path

from suite.differences import DIFFERENCES

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "reference" / "compatibility.md"


def test_every_difference_is_expected_by_a_test():
    sources = "\n".join(path.read_text() for path in HERE.glob("test_*.py"))
    expected = set(re.findall(r'differs\(\s*"([a-z-]+)"', sources))
    assert expected == set(DIFFERENCES)


def test_every_difference_is_documented():
    documented = re.findall(r"^\| `([a-z-]+)` \|", DOCUMENT.read_text(), re.MULTILINE)
    assert sorted(documented) == sorted(DIFFERENCES)
