"""What holds texts on this machine can be sealed: read by nobody without the key, and changed by nobody unseen."""
