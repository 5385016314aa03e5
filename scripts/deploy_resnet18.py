#!/usr/bin/env python3
"""Deploy a ResNet-18 to VTA: the same as ``vta-flow deploy``; see --help for the options."""

import importlib.util
import sys
from pathlib import Path

if importlib.util.find_spec("flow") is None:  # run from a checkout that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from flow.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["deploy", *sys.argv[1:]]))
