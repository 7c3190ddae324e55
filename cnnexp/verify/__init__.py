"""Whether the numbers of run.json and of a report are those of the stored logits. Never imports torch.

What is compared is computed here once more, in plain numpy and SciPy, and not by the functions that made it. Which runs
make an arm, and what the words of a table are, is asked of the report.
"""
