"""A suite: arms × seeds that part from common states, trained side by side, and what they come to."""
