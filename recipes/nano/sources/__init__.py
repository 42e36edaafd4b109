"""Sources of examples for nano: each module makes `Example`s from a generator's state, train and test apart."""
