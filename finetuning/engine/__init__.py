"""The fine-tuning engine: a program whose whole contract is a run directory.

`python -m finetuning.engine VERB RUN_DIR` reads `RUN_DIR/spec.json` and `RUN_DIR/inputs/`, appends to
`RUN_DIR/events.jsonl`, writes `RUN_DIR/outputs/` and, last of all, `RUN_DIR/result.json`.
It imports no Django; the site imports nothing of it but `spec` and `events`.
"""
