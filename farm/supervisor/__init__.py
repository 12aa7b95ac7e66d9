"""The supervisor: keeps one broker process and N workers alive, and stops them in good order."""
