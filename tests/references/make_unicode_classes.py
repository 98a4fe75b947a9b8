#!/usr/bin/env python3
"""Writes src/scorer/unicode.rs: the Unicode classes that sacrebleu's tokenizer `intl` asks the module `regex` for.

    pip install regex==2026.11.19 && python tests/references/make_unicode_classes.py && cargo fmt
"""
import os

import regex

HERE = os.path.dirname(os.path.abspath(__file__))


def bounds(pattern):
    """Where the class begins and ends, in turns: the first character in it, the first after it, and so on."""
    matches = regex.compile(pattern).fullmatch
    inside = [not 0xD800 <= code <= 0xDFFF and bool(matches(chr(code))) for code in range(0x110000)]
    return [code for code in range(0x110000) if inside[code] != (code > 0 and inside[code - 1])]


def lines(numbers):
    out, line = [], "   "
    for number in numbers:
        item = f" {number:#x},"
        if len(line) + len(item) > 120:
            out.append(line)
            line = "   "
        line += item
    return "\n".join([*out, line])


text = f"""//! Unicode's punctuation, symbols and numbers, as the module `regex` {regex.__version__} of Python knows them.
//!
//! Written by `tests/references/make_unicode_classes.py`. Tables of our own, because scores must not move with the
//! Unicode version of a crate.
"""
for name, pattern, words in [
    ("PUNCTUATION", r"\p{P}", "General category P"),
    ("SYMBOL", r"\p{S}", "General category S"),
    ("NUMBER", r"\p{N}", "General category N"),
]:
    text += f"\n/// {words}: the first character in it, the first after that, and so on in turns.\n"
    text += f"pub(super) const {name}: &[u32] = &[\n{lines(bounds(pattern))}\n];\n"
text += """
/// Whether `c` is in `class`, one of the tables above.
pub(super) fn is_in(c: char, class: &[u32]) -> bool {
    class.partition_point(|bound| *bound <= u32::from(c)) % 2 == 1
}
"""
with open(f"{HERE}/../../src/scorer/unicode.rs", "w") as file:
    file.write(text)
