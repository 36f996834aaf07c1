"""Why a model answers so: the words of one message, and the halves of its vectors class by class."""
