"""Shared by several test files; pytest puts tests/ on the path for conftest.py."""
