"""Files on disk: states written completely or not at all, and a run's folder with its lock."""
