"""Faults done to the commands: bad lines, bad files, flipped bits, kills, and folders that fill up or vanish."""
