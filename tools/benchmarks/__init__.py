"""Benchmarks: a script for each table of docs/benchmarks/."""
