"""A text release's tokenizer. The library parses its files and nothing else: no code of the release is run."""

from __future__ import annotations

import json

from tokenizers import BertWordPieceTokenizer, Tokenizer

from finetuning.engine.frameworks.loaded import Loaded
from finetuning.engine.problems import reject

_WORD_PIECE = frozenset({"bert", "distilbert", "electra"})  # whose vocab.txt alone makes a tokenizer


def tokenizer_of(loaded: Loaded) -> Tokenizer:
    """Returns the tokenizer of the release's own files. Rejects (`tokenizer_missing`, `tokenizer_invalid`)."""
    kind = loaded.config.get("model_type")
    if content := loaded.files.get("tokenizer.json"):
        try:
            tokenizer = Tokenizer.from_buffer(content)
        except Exception as error:  # the library raises bare exceptions on what it cannot parse
            raise reject("tokenizer_invalid", "tokenizer.json cannot be read. Save the tokenizer again.") from error
    elif (vocabulary := loaded.files.get("vocab.txt")) and kind in _WORD_PIECE:
        tokenizer = _word_piece(vocabulary, loaded.files.get("tokenizer_config.json"))
    else:
        raise reject("tokenizer_missing", "The release has no tokenizer.json. Upload it beside the weights.")
    highest = max(tokenizer.get_vocab().values(), default=0)
    if highest >= int(loaded.config.get("vocab_size", highest + 1)):
        raise reject("tokenizer_invalid", f"The tokenizer numbers tokens up to {highest:,}: more than the model has.")
    return tokenizer


def _word_piece(vocabulary: bytes, settings: bytes | None) -> Tokenizer:
    """Returns BERT's tokenizer for a bare vocabulary."""
    try:
        lowers = json.loads(settings or b"{}").get("do_lower_case", True) is not False
        words = vocabulary.decode("utf-8").splitlines()
        wrapper = BertWordPieceTokenizer({word: at for at, word in enumerate(words)}, lowercase=lowers)
        tokenizer: Tokenizer = wrapper._tokenizer  # noqa: SLF001 - the wrapper hides the one class that the other branch returns
    except Exception as error:  # as above
        raise reject("tokenizer_invalid", "vocab.txt cannot be read. Save the tokenizer again.") from error
    return tokenizer
