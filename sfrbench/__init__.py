"""Ablation and benchmark harness for SFR: stitching, fine-tuning, re-training (Li et al., TMI 2025)."""

__version__ = "0.1.0"
