"""Speed, measured in pairs against the rivals; nothing of it is a test."""
