"""The protocol that `huggingface_hub`, transformers and timm speak, answered at the site's root (ADR 0038)."""
