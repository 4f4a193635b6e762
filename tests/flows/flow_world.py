"""What several flows try the product with."""

from __future__ import annotations

import io

from PIL import Image
from sklearn.datasets import load_digits

MODEL = "northlight/efficientnet-lite0"


def digit_png(position: int) -> bytes:
    """One digit of scikit-learn's set as a 64-pixel PNG."""
    pixels = (load_digits().images[position] * (255 / 16)).astype("uint8")
    file = io.BytesIO()
    Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).convert("RGB").save(file, "PNG")
    return file.getvalue()
