"""The oracle of the report: its numbers and verdicts, computed a second time from the stored logits and metric rows.

It uses nothing of cnnexp.report.analysis: which runs make an arm comes from cnnexp.report.read, the reading of a claim
from cnnexp.claims, and the rest is written here in plain numpy and SciPy.
"""
