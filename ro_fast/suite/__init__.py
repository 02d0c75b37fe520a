"""A suite: arms × seeds that fork from common states, trained side by side, and their results."""
