"""The files that run in the browser, read once and kept, with a name that changes as they do.

So a browser keeps them for good, and a page of a new version never meets scripts of an old one.
"""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_ABOUT: Final = b"{{about}}"  # where stands what is the same for all browsers
_PLACE: Final = b"{{static}}"  # where the files are, in an HTML file


class StaticFile(NamedTuple):
    """One file."""

    media_type: str
    content: bytes
    compressed: bytes


class Statics:
    """See the module.

    Args:
        about: what the page is told of this farm's traffic, as JSON.

    Attributes:
        version: of all of them together.
        prefix: of the paths at which they are served.
    """

    def __init__(self, about: bytes = b"{}") -> None:
        # in a block of data that is no script; and "<" could end it
        self._about = about.replace(b"<", b"\\u003c")
        paths = sorted(path for path in FOLDER.rglob("*") if path.suffix in _TYPES)
        contents = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in paths}
        digest = hashlib.sha256()
        for name, content in contents.items():
            digest.update(b"%s\0%d\0%s" % (name.encode(), len(content), content))
        self.version = digest.hexdigest()[:16]
        self.prefix = f"/static/{self.version}"
        self._files = {name: self._file(name, content) for name, content in contents.items()}

    def get(self, name: str) -> StaticFile | None:
        """A file by its name; None where there is none."""
        return self._files.get(name)

    def _file(self, name: str, content: bytes) -> StaticFile:
        if name.endswith(".html"):
            content = content.replace(_PLACE, self.prefix.encode()).replace(_ABOUT, self._about)
        media_type = _TYPES[Path(name).suffix]
        return StaticFile(media_type, content, gzip.compress(content, 6))
