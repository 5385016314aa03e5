"""What can be deployed: a folder of programs, library, plan and manifest, written and used."""
