"""Worked examples of transeg plugins; nothing here is imported before it is used."""
