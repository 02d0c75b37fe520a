"""What lies here and is no test: programs that tests run in processes of their own."""

collect_ignore = ["ahead_of_time.py", "cuda_emulation"]
