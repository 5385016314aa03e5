"""Why a layer is on the host, what bounds it on VTA, and what would help."""
