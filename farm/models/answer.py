"""The network's answer as plain numbers: which column of it means what. Knows no torch."""

from __future__ import annotations

from typing import Final

KEYPOINTS: Final = 3
"""Entry, transition, exit."""

POINTS: Final = 2 * KEYPOINTS
"""Those of torque, then those of the tip (thrust)."""

COLUMNS: Final = 2 * POINTS + KEYPOINTS + 1
"""Of a hole's answer."""

TORQUE: Final = slice(0, KEYPOINTS)
"""Torque onsets, in mm from the hole's first sample."""

TIP: Final = slice(KEYPOINTS, POINTS)
"""Thrust onsets, likewise."""

SIGMA: Final = slice(POINTS, POINTS + KEYPOINTS)
"""Standard deviations of the torque onsets, in mm; those of the tip follow."""

EXISTS: Final = slice(2 * POINTS, 2 * POINTS + KEYPOINTS)
"""Probabilities that the hole has such a keypoint."""

QUALITY: Final = COLUMNS - 1
"""Probability that all of it is right."""
