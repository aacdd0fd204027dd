"""Parts of the paper's detection experiments beyond its baseline (He et al. 2015, appendix B)."""
