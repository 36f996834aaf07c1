"""What a model answers to messages that come in: their vectors, who answers, and what is watched of them."""
