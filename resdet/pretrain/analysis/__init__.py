"""What a trained classifier's layers do: `layer_responses` (figure 7 of He et al. 2015).

Not for: errors (`resdet.pretrain.protocols`), or counts (`resdet.nets`).
"""
