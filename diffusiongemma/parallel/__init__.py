"""Tensor parallelism: several processes, each with a share of every layer, compute each pass together.

The first process is the whole program: it reads prompts, schedules, draws tokens and serves. The others hold shares of
the layers and their own part of the caches, and do what the first one says (`orders`, `following`).
"""
