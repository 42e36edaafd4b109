"""Lets a small language model of others write: `python -m recipes.nano.writer OUT_DIR --model FILE.gguf`."""
