"""How nano and nano-base are made: tokenizer, mixtures, training, and the mean of two runs."""
