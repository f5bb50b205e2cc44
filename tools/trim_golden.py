#!/usr/bin/env python3
"""Copies parity data (a manifest, its cases and models) into tests/golden, small enough for the repository.

    tools/trim_golden.py SOURCE tests/golden

The token table of a CLIP text encoder is most of its file, and the cases look up some hundred of its
49,408 rows: only those are kept, as `token_rows` beside the ids in `token_ids`. tests/expand_golden
writes the full file (other rows zero) into the build folder, where the tests read it.
"""
import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import load_file, save_file

TABLE = "embeddings.token_embedding.weight"


def used_ids(source: pathlib.Path, manifest: dict) -> torch.Tensor:
    """Every token id that a case's prompts or inputs can hold."""
    from transformers import CLIPTokenizer

    ids = set()
    tokenizer = CLIPTokenizer.from_pretrained(source / "t2v-ms" / "tokenizer")
    for case in manifest["cases"]:
        settings = case["settings"]
        texts = [settings.get("prompt"), settings.get("negative_prompt"), ""]
        ids.update(i for text in texts if text is not None for i in tokenizer(text)["input_ids"])
        if "ids" in case["inputs"]:
            ids.update(load_file(source / case["file"])["in.ids"].flatten().tolist())
    ids.update([0, 49406, 49407])
    return torch.tensor(sorted(ids), dtype=torch.int64)


def trim_text_encoder(src: pathlib.Path, dst: pathlib.Path, ids: torch.Tensor) -> None:
    tensors = load_file(src)
    name = next(n for n in tensors if n.endswith(TABLE))
    table = tensors.pop(name)
    tensors["token_rows"] = table[ids].contiguous()
    tensors["token_ids"] = ids
    meta = {"token_table": name, "token_table_rows": str(table.shape[0])}
    save_file(tensors, dst, metadata=meta)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=pathlib.Path)
    parser.add_argument("target", type=pathlib.Path)
    parser.add_argument("--model", action="append",
                        help="keep these models' networks (default: all that lie there)")
    args = parser.parse_args()
    manifest = json.loads((args.source / "manifest.json").read_text())
    ids = used_ids(args.source, manifest)
    args.target.mkdir(parents=True, exist_ok=True)
    shutil.copy(args.source / "manifest.json", args.target)
    shutil.copytree(args.source / "cases", args.target / "cases", dirs_exist_ok=True)
    for file in sorted(args.source.glob("*/*/*")) + sorted(args.source.glob("*/*.json")):
        relative = file.relative_to(args.source)
        if relative.parts[0] == "cases":
            continue
        target = args.target / relative
        if file.suffix == ".safetensors" and args.model and relative.parts[0] not in args.model:
            if not relative.parts[1].startswith("text_encoder"):
                continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if relative.parts[1].startswith("text_encoder") and file.suffix == ".safetensors":
            trim_text_encoder(file, target.with_name("trimmed.safetensors"), ids)
        else:
            shutil.copy(file, target)


if __name__ == "__main__":
    main()
