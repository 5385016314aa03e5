"""Write the embedded digits (flow/data/digits.npz) from scikit-learn's copy of them.

    pip install scikit-learn
    python scripts/make_digits.py [--output FILE.npz]

The same numpy and zlib give the same file; every version gives the same arrays.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from flow.data.digits import DIGITS_FILE, LARGEST_COUNT


def make(path: Path) -> None:
    """Write ``images``, uint8[1797, 8, 8] of 0 to 16, and ``classes``, uint8[1797], to `path`."""
    from sklearn.datasets import load_digits  # nothing else of the project needs it

    bunch = load_digits()
    images, classes = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    assert (images == bunch.images).all() and images.max() == LARGEST_COUNT, "integers, 0 to 16"
    np.savez_compressed(path, images=images, classes=classes)


def main() -> None:
    """Write the file and say how large it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--output", type=Path, default=DIGITS_FILE, help="file to write (default: the embedded one)"
    )
    path = parser.parse_args().output
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    sys.stderr.write(f"{path}: {path.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
