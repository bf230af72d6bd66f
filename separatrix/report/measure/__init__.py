"""The instruments, put to one subject: each question becomes a Finding, and what the verdict needs is kept.

Nothing here is tuned to a model or a data set: lengths, lines and settings are fixed before any run.
"""
