"""Scissors for checkpoints: arrays by name, a block at a time, always into a new checkpoint.

Nothing here knows the model, and nothing imports JAX: a process that cuts a checkpoint of any size
stays small. Every command is a table of names and arrays that are read lazily (`blocks`); what is
derived from an array (cast, resized) is such an array again; one writer (`output`) takes any.
"""
