"""How wide the vector of a sentence is; by itself, so that who only needs to know it imports no encoder."""

SENTENCE_WIDTH = 384
