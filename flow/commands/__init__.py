"""The subcommands of ``vta-flow``: what each takes, runs and shows."""
