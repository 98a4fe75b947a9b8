//! What Python means by the words that the reference programs use.

/// Whether Python's `str.split`, `str.strip` and `\s` take `c` for white space: Unicode's, and four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}
