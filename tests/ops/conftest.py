"""Files here that are not tests: programs that tests run in separate processes."""

collect_ignore = ["ahead_of_time.py", "cuda_emulation"]
