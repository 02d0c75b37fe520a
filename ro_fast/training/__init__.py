"""One training run: the loop, its checks, its scores, and what it keeps."""
