#!/usr/bin/env python3
"""Compares the tokenizer with transformers' CLIPTokenizer on every code point and on random strings.

    tools/check_tokenizer.py BUILD/tests/text/tokenize_lines TOKENIZER_FOLDER [--strings 20000] [--seed 1]

Needs Python with transformers; no test and no build needs it. Exits with 1 if anything differs that does
not come from the two sides' Unicode versions (NEWER_LETTERS, NEWER_MARKS below).
"""
import argparse
import random
import subprocess
import sys
import unicodedata

from transformers import CLIPTokenizer

# Letters, digits and case pairs of Unicode 15.1 to 17.0: the tokenizers library (0.23) knows them, libutf8proc 2.8
# (Unicode 15.0, Debian 12) has them as unassigned, so they fall in the last class of the splitting pattern.
NEWER_LETTERS = """1C89-1C8A A7CB-A7CE A7D2 A7D4 A7DA-A7DC 105C0-105F3 10D40-10D65 10D6F-10D85 10EC2-10EC4
    11380-11389 1138B 1138E 11390-113B5 113B7 113D1 113D3 116D0-116E3 11BC0-11BE0 11BF0-11BF9 13460-143FA 16100-1611D
    16130-16139 16D40-16D6C 16D70-16D79 16EA0-16EB8 18CFF 1CCF0-1CCF9 1E5D0-1E5ED 1E5F0-1E5FA 2EBF0-2EE5D"""
# Marks and one composition (U+11938) of Unicode 10.0 to 15.0: libutf8proc orders and composes them, the tokenizers
# library's NFC has tables of Unicode 9.0 and leaves them as they stand.
NEWER_MARKS = """7FD 899-89B 8CF-8D3 C3C D3B-D3C EBA 1715 1ABF-1AC0 1AC3-1AC4 1ACA 1DF6-1DFA A82C 10EFD-10EFF
    10F46-10F47 10F4B 10F4D-10F50 10F83 10F85 11070 1133B 11839-1183A 11938 1193D-1193E 11943 119E0 11A34 11A47 11A99
    11D42 11D44-11D45 11D97 11F41-11F42 16FF0-16FF1 1E4EC-1E4EE"""

FORMS = ("a{0}1{0}!", "{0}\u0301x", "q\u0301{0}")

SPACES = "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2003\u200a\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
LOOKALIKES = ["<|startoftext|>", "<|endoftext|>", "<|StartOfText|>", "<|ENDOFTEXT|>", "<|STARTOFTEXT|>",
              "<|startoftext|", "|endoftext|>", "<|", "|>", "<|\u017ftartoftext|>", "<|endoftext|>\u0338"]
CONTRACTIONS = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'LL", "'Re", "''", "'", "\u2019s", "'\u017f"]
RANGES = {
    "ascii": (0x20, 0x7e), "letters": (0x61, 0x7a), "capitals": (0x41, 0x5a), "digits": (0x30, 0x39),
    "punctuation": (0x21, 0x2f), "control": (0x01, 0x1f), "latin1": (0x80, 0xff), "latin": (0x100, 0x24f),
    "marks": (0x300, 0x36f), "greek": (0x370, 0x3ff), "cyrillic": (0x400, 0x4ff), "hebrew": (0x591, 0x5f4),
    "arabic": (0x600, 0x6ff), "indic": (0x900, 0xdff), "thai": (0xe00, 0xe7f), "tibetan": (0xf00, 0xfff),
    "jamo": (0x1100, 0x11ff), "ethiopic": (0x1200, 0x139f), "vietnamese": (0x1e00, 0x1fff), "general": (0x2000, 0x206f),
    "numbers": (0x2070, 0x218f), "symbols": (0x2190, 0x2bff), "kana": (0x3040, 0x30ff), "cjk": (0x4e00, 0x9fff),
    "hangul": (0xac00, 0xd7a3), "compat": (0xf900, 0xfaff), "forms": (0xfb00, 0xffef), "math": (0x1d400, 0x1d7ff),
    "music": (0x1d100, 0x1d1ff), "emoji": (0x1f300, 0x1faff), "deseret": (0x10400, 0x1044f), "cjk2": (0x2f800, 0x2fa1d),
    "anything": (0x01, 0x10ffff),
}


def ours(program, folder, strings):
    text = b"".join(s.encode() + b"\0" for s in strings)
    run = subprocess.run([program, folder], input=text, stdout=subprocess.PIPE, check=True)
    lines = run.stdout.decode().splitlines()
    assert len(lines) == len(strings), (len(lines), len(strings))
    return [[int(x) for x in line.split()] for line in lines]


def theirs(tokenizer, strings):
    return [e.ids for e in tokenizer.backend_tokenizer.encode_batch(list(strings))]


def code_points(ranges):
    points = set()
    for item in ranges.split():
        low, _, high = item.partition("-")
        points.update(range(int(low, 16), int(high or low, 16) + 1))
    return points


def all_code_points():
    return [c for c in range(1, 0x110000) if not 0xd800 <= c <= 0xdfff]


def check_code_points(program, folder, tokenizer):
    """Each code point beside letters, digits and marks, so that its class, case, combining class and composition
    show, and the decomposed form of each composite."""
    different = set()
    for form in FORMS:
        for start in range(0, 0x110000, 0x8000):
            points = [c for c in range(max(start, 1), start + 0x8000) if not 0xd800 <= c <= 0xdfff]
            strings = [form.format(chr(c)) for c in points]
            for c, a, b in zip(points, ours(program, folder, strings), theirs(tokenizer, strings)):
                if a != b:
                    different.add(c)
    composed = [c for c in all_code_points() if c not in different
                and len(unicodedata.normalize("NFD", chr(c))) > 1]
    strings = [unicodedata.normalize("NFD", chr(c)) for c in composed]
    for c, a, b in zip(composed, ours(program, folder, strings), theirs(tokenizer, strings)):
        if a != b:
            different.add(c)
    return different


def random_string(rng, excluded):
    parts = []
    for _ in range(rng.randint(1, 12)):
        kind = rng.random()
        if kind < 0.12:
            parts.append("".join(rng.choice(SPACES) for _ in range(rng.randint(1, 3))))
        elif kind < 0.20:
            parts.append(rng.choice(LOOKALIKES))
        elif kind < 0.30:
            parts.append(rng.choice(CONTRACTIONS))
        elif kind < 0.34:
            parts.append(rng.choice("ab!e1\u0301\u65e5") * rng.randint(2, 300))
        elif kind < 0.42:
            base = chr(rng.choice([0x41, 0x65, 0x130, 0x3b1, 0x1100, 0xac00, 0x915, 0x1ea1]))
            parts.append(base + "".join(chr(rng.randint(0x300, 0x36f)) for _ in range(rng.randint(1, 6))))
        else:
            low, high = RANGES[rng.choice(sorted(RANGES))]
            parts.append("".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, 10))))
    text = "".join(parts)
    return "".join(c for c in text if ord(c) not in excluded and not 0xd800 <= ord(c) <= 0xdfff)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("folder")
    parser.add_argument("--strings", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only-strings", action="store_true", help="leave out the code points (two minutes)")
    args = parser.parse_args()
    tokenizer = CLIPTokenizer.from_pretrained(args.folder)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()

    explained = code_points(NEWER_LETTERS) | code_points(NEWER_MARKS)
    unexplained = set()
    if not args.only_strings:
        different = check_code_points(args.program, args.folder, tokenizer)
        unexplained = different - explained
        for c in sorted(unexplained):
            print(f"U+{c:04X} {unicodedata.name(chr(c), '(no name)')} differs")
        print(f"{len(all_code_points())} code points in {len(FORMS)} contexts: {len(different & explained)} differ by Unicode "
              f"version, {len(unexplained)} otherwise")

    rng = random.Random(args.seed)
    strings = [random_string(rng, explained) for _ in range(args.strings)]
    wrong = 0
    for s, a, b in zip(strings, ours(args.program, args.folder, strings), theirs(tokenizer, strings)):
        if a != b:
            wrong += 1
            if wrong <= 10:
                print(f"{ascii(s)}\n  ours   {a}\n  theirs {b}")
    tokens = sum(map(len, theirs(tokenizer, strings)))
    print(f"{len(strings)} random strings, {tokens} tokens: {wrong} differ")
    return 1 if unexplained or wrong else 0


if __name__ == "__main__":
    sys.exit(main())
