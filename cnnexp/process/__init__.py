"""What a process shares with its system: signals, standard streams, limits. Imports nothing but errors."""
