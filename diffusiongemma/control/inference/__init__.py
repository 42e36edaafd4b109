"""Exact inference on a canvas under an automaton: the lattice of permitted paths (`lattice`), sums over them (`sweeps`,
`chain`), what the model's scores say (`evidence`), and how a canvas is read with it (`reader`, `holding`)."""
