"""Settings that make a step faster or smaller, one key each; off leaves the stock path alone.

precision         bfloat16 and channels_last; cpu_features: what this CPU computes natively
torch_compile     ENGINE.COMPILE; fused_optimizer: ENGINE.FUSED_OPTIMIZER
kept_memory       ENGINE.KEEP_MEMORY; activation_checkpointing: ENGINE.ACTIVATION_CHECKPOINTING
"""
