"""What a study claims, and what the source of its claims reports. Imports nothing but errors."""
