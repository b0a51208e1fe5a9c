"""Draw docs/gallery/*.png: run the lines of docs/gallery.md, save each figure where it stands.

python docs/figures/gallery.py    # two minutes
"""

import re
import warnings
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parents[1]
# A block of lines, and the picture after it, if there is one.
BLOCK = re.compile(r"^```python\n(.*?)^```\n+(?:!\[[^]]*\]\((.*?)\))?", re.M | re.S)


def main():
    """Write every figure of the page, with 256 colours."""
    (DOCS / "gallery").mkdir(exist_ok=True)
    names = {}
    for lines, picture in BLOCK.findall((DOCS / "gallery.md").read_text("utf-8")):
        exec(lines, names)
        if picture:
            path = DOCS / picture
            names["figure"].savefig(path, dpi=110)
            Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        main()
