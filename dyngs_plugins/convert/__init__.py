"""From any layout that opens to the layouts that other programs read: one writer per target, one record beside it."""
