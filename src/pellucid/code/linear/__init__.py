"""Dense layers in shorter forms: convolutions, blocks, low rank, whole numbers behind scales, idle units."""
