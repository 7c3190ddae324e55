"""The local launcher: many runs on the slots of this machine, each isolated from the others' failures."""
