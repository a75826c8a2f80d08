"""The experiment: what a user asks for, validated and complete."""
