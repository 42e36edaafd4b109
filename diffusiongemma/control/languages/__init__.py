"""Regular languages over characters, without torch: expressions (`language`) and what they are made from (`regex`,
`template`, `choices`, `words`), their automata (`nfa`, `dfa`), and those over bytes (`utf8`)."""
