"""What lies on disk: states written whole or not at all, and the folder of a run with its lock."""
