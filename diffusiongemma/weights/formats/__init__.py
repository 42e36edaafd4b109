"""Readers of the files in circulation: the release's tensors by the release's names, packed where the file packs."""
