"""What users take home from a finished run: predictions on their own images, the network, a card."""
