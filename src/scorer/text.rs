//! What Python means by white space, and what several scorers do with texts.

/// Whether Python's `str.split`, `str.strip` and `\s` take `c` for white space: Unicode's, and four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Words of Python's `str.split`.
pub(super) fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Where `words` stand in `text` and no letter, digit or `_` stands beside them.
pub(super) fn places<'a>(text: &'a str, words: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let places = text.match_indices(words).map(|(place, _)| place);
    places.filter(move |place| {
        let (before, behind) = (text[..*place].chars().next_back(), text[place + words.len()..].chars().next());
        !is_word(before) && !is_word(behind)
    })
}

/// The first characters of a text, for messages.
pub(super) fn shown(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("`{}…`", &text[..end]),
        None => format!("`{text}`"),
    }
}
