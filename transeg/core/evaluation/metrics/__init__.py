"""Metrics of single images."""
