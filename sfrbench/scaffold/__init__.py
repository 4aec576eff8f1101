"""Files to begin with: an experiment that goes on from another, or a class with its card and a test."""
