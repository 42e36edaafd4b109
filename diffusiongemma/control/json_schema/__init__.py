"""From a JSON Schema to the language of the texts to write: `schema` and `keywords` read it into `shapes`, `text`
writes them as a language. A new keyword is read in `keywords` (of one type) or `schema` (about other schemas)."""
