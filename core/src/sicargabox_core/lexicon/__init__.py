"""Our own bilingual vocabulary: data files and their loader."""
