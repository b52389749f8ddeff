"""Labels of units without any language model: decision lists over what stands where in a text, grown and run fast."""
