"""Keras on its torch backend. Every import of Keras goes through here: the backend is chosen when it is imported."""

from __future__ import annotations

import os

from finetuning.engine.failures import AppFault

os.environ["KERAS_BACKEND"] = "torch"
try:
    import keras
except ImportError as error:  # an optional extra
    raise AppFault("keras_missing", "This server has no Keras: install the extra `keras`.") from error

# A file in the home directory may say otherwise.
keras.config.set_floatx("float32")
keras.config.set_image_data_format("channels_last")

__all__ = ["keras"]
