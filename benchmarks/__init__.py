"""Speed, measured in pairs against the rivals; none of this is a test."""
