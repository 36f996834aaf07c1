"""One file a kind of gate; `config.gate_settings.KINDS` registers them."""
