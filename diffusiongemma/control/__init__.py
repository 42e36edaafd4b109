"""Answers that are guaranteed to match: what is asked (`structure`), compiled for a vocabulary (`compiling`), carried
from canvas to canvas (`constraint`).

`languages` is about texts, `json_schema` turns schemas into languages, `tokens` languages into automata over tokens,
and `inference` conditions what the model says of a canvas on them.
"""
