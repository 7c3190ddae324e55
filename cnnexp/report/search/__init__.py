"""The report of a search: its history, which settings matter, and the best ones as a command."""
