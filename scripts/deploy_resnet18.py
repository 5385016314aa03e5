#!/usr/bin/env python3
"""Deploy a ResNet-18 to VTA: the same as ``vta-flow deploy``; see --help for the options."""

import sys

from flow.cli import main

if __name__ == "__main__":
    sys.exit(main(["deploy", *sys.argv[1:]]))
