"""What happens, in order: import, passes, compiler, simulators, evaluation and report."""

from typing import Final

#: Of the package; pyproject.toml reads it here.
__version__: Final = "0.1.0"
