"""Models by name: the embedded one, and public ones that are downloaded on request."""

from pathlib import Path
from typing import Final

DIGITS_ONNX: Final = Path(__file__).parent / "data" / "digits_resnet18.onnx"
