"""A picture of a report's page, light on a desktop beside dark on a telephone, taken by a headless Chromium.

python scripts/picture_of_page.py out/demo/index.html docs/images/report.jpg
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, TELEPHONE = 1280, 390  # pixels across
PAPER = {"light": "#ffffff", "dark": "#14181a"}


def picture(browser: str, page: Path, width: int, height: int, scheme: str) -> Image.Image:
    """The upper `height` pixels of a page as wide as a window of `width`."""
    with tempfile.TemporaryDirectory() as folder:
        # A window is never narrower than 500 pixels, a frame is.
        frame = Path(folder) / "frame.html"
        frame.write_text(
            f'<meta name="color-scheme" content="light dark"><body style="margin:0;background:{PAPER[scheme]}">'
            f'<iframe src="{page.resolve().as_uri()}" style="border:0;width:{width}px;height:{height}px"></iframe>'
        )
        taken = Path(folder) / "taken.png"
        scheme_number = {"dark": 0, "light": 1}[scheme]
        call = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--allow-file-access-from-files", f"--blink-settings=preferredColorScheme={scheme_number}",
            f"--window-size={max(width, 500)},{height}", f"--screenshot={taken}", frame.as_uri(),
        ]  # fmt: skip
        subprocess.run(call, check=True, capture_output=True, timeout=120)
        with Image.open(taken) as image:
            return image.convert("RGB").crop((0, 0, width, height))


def main() -> int:
    """Write the picture. Exit status 2 without a browser."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path, help=".jpg or .png")
    parser.add_argument("--height", type=int, default=1900, help="pixels of the page that are shown")
    parser.add_argument("--from-y", type=int, default=0, help="pixels of the page that are left out above")
    parser.add_argument("--width", type=int, default=1100, help="of the picture, in pixels")
    arguments = parser.parse_args()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        print(f"error: no {' or '.join(BROWSERS)} on PATH", file=sys.stderr)
        return 2
    below = arguments.from_y + arguments.height
    desktop = picture(browser, arguments.page, DESKTOP, below, "light")
    telephone = picture(browser, arguments.page, TELEPHONE, arguments.height, "dark")
    both = Image.new("RGB", (DESKTOP + TELEPHONE + 20, arguments.height), "white")
    both.paste(desktop.crop((0, arguments.from_y, DESKTOP, below)), (0, 0))
    both.paste(telephone, (DESKTOP + 20, 0))
    both.thumbnail((arguments.width, 10_000))
    both.save(arguments.out, quality=80, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
