"""What is known of a file that came by an address.

Not for: how it came (`fetch`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FetchedFile:
    """A file in a cache.

    Attributes:
        address: as it was given.
        url: where it comes from; of Hugging Face's hub the page of the file.
        sha256: of the whole file.
        verified_by: who states that hash; "" where nobody does.
        revision: of Hugging Face's hub, the commit.
        license: of the weights, where who publishes them states it for a program to read; an id
            such as "apache-2.0", or an address; "" where nobody does.
    """

    address: str
    path: Path
    url: str
    sha256: str
    verified_by: str = ""
    revision: str = ""
    license: str = ""

    def sentence(self) -> str:
        by = f"as {self.verified_by} states" if self.verified_by else "stated nowhere"
        at = f", revision {self.revision[:12]}" if self.revision else ""
        return f"{self.address} is {self.path}{at}, SHA-256 {self.sha256[:12]}…, {by}"

    def record(self) -> dict[str, str]:
        """For cards and run folders: where the file came from."""
        values = {
            "address": self.address, "url": self.url, "sha256": self.sha256,
            "verified_by": self.verified_by, "revision": self.revision, "license": self.license,
        }  # fmt: skip
        return {key: value for key, value in values.items() if value}
