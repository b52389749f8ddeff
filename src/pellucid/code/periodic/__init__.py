"""Networks on residues as waves: trigonometric code with named frequencies."""
