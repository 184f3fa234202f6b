"""Encoders, a module each, found by name: from the steps of one or several streams to tokens."""
