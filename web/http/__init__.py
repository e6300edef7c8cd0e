"""How every operation speaks HTTP: declared, read, checked, answered."""
