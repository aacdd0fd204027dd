"""Small shims for other packages' versions, each with the version that no longer needs it.

Not for: our own behaviour, or changes to what others compute.
"""

from __future__ import annotations

import warnings

# Detectron2 0.6 and main (June 2026) under torch 2.9 and later; nothing that a user could fix.
KNOWN_NOISE = (
    (r"`torch\.jit\.script` is deprecated", FutureWarning),
    (r"`torch\.jit\.script` is deprecated", DeprecationWarning),
    (r"torch\.meshgrid: in an upcoming release", UserWarning),
    (r"`torch\.cuda\.amp", FutureWarning),
)


def quiet_known_noise() -> None:
    """Hides warnings of Detectron2's own code on today's torch; all others stay."""
    for message, category in KNOWN_NOISE:
        warnings.filterwarnings("ignore", message=message, category=category)
