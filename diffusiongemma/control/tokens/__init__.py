"""Languages over the tokens of a vocabulary: what each token writes (`vocabulary`), which may follow in which state
(`automaton`, fewer states in `coarse`, a thought before in `preamble`), and bias on single tokens (`bias`)."""
