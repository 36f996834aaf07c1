"""Vectors by encoder and text, so that a text is encoded once in its life: on this machine, or shared by several."""
