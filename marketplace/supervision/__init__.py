"""How the product's processes live and die: crash-only, nothing outlives its parent (docs/adr/0004)."""
