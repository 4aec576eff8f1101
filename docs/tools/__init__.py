"""What makes the documentation's site, and runs the examples of its pages."""
