"""What a user of transformers or timm would run with HF_ENDPOINT set; prints one JSON object. Its own process, because
these libraries read the endpoint and the token when they are imported."""

from __future__ import annotations

import json
import sys


def classify(model: str, picture: str) -> dict[str, object]:
    """The likeliest class of the picture and its probability, as timm computes them."""
    import timm  # noqa: PLC0415 - reads the endpoint
    import torch  # noqa: PLC0415
    from PIL import Image  # noqa: PLC0415

    network = timm.create_model(f"hf-hub:{model}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
    with Image.open(picture) as image, torch.inference_mode():
        shares = network(transform(image.convert("RGB"))[None]).softmax(1)[0]
    return {"index": int(shares.argmax()), "confidence": float(shares.max())}


def embed(model: str, text: str) -> dict[str, object]:
    """The shape of what the encoder makes of the text."""
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - reads the endpoint

    tokens = AutoTokenizer.from_pretrained(model)(text, return_tensors="pt")
    state = AutoModel.from_pretrained(model)(**tokens).last_hidden_state
    return {"shape": list(state.shape), "parameters": AutoModel.from_pretrained(model).num_parameters()}


def push_timm(model: str) -> dict[str, object]:
    """Pushes a small classifier as timm does: with a pickle beside the safetensors, unless it is told not to."""
    import timm  # noqa: PLC0415

    network = timm.create_model("test_efficientnet", pretrained=False, num_classes=3).eval()
    card = {"license": "mit", "tags": ["image-classification", "timm"]}
    labels = {"label_names": ["cat", "dog", "fox"]}
    done = timm.models.push_to_hf_hub(network, model, model_config=labels, model_card=card)
    return {"oid": done.oid, "parameters": sum(part.numel() for part in network.parameters())}


def push_transformers(model: str, vocabulary: str) -> dict[str, object]:
    """Pushes a small encoder and then its tokenizer, each a commit."""
    from transformers import BertConfig, BertModel, BertTokenizerFast  # noqa: PLC0415

    tokenizer = BertTokenizerFast(vocab=vocabulary)
    size = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 256}
    encoder = BertModel(BertConfig(vocab_size=len(tokenizer), **size))
    first = encoder.push_to_hub(model)
    second = tokenizer.push_to_hub(model)
    again = tokenizer.push_to_hub(model)
    return {"oids": [first.oid, second.oid, again.oid], "parameters": encoder.num_parameters()}


def upload(model: str, folder: str) -> dict[str, object]:
    """Pushes a folder, by Xet where the environment does not forbid it."""
    from huggingface_hub import HfApi  # noqa: PLC0415

    return {"oid": HfApi().upload_folder(repo_id=model, folder_path=folder).oid}


if __name__ == "__main__":
    verbs = {"classify": classify, "embed": embed, "upload": upload}
    verbs |= {"push-timm": push_timm, "push-transformers": push_transformers}
    sys.stdout.write(json.dumps(verbs[sys.argv[1]](*sys.argv[2:])))
