"""What several test files use; pytest puts tests/ on the path for conftest.py."""
