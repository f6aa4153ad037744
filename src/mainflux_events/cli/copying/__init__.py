"""What `replay`, `mirror`, `dump` and `load` have in common: entries read, written as lines, and appended once."""
