"""The oracle of the report: its numbers, computed a second time from the stored logits and metric rows.

Plain numpy and SciPy, none of the functions of cnnexp.report.analysis that make these numbers. Which runs make an arm,
and the words of a table, come from the report.
"""
