"""How the embedded models are made: recipes beside the package, not in its wheel."""
