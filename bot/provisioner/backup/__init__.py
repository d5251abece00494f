"""What a lost machine would cost, kept in a restic repository elsewhere, and brought back onto an empty host."""
