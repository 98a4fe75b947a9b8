//! The Porter stemmer with NLTK's extensions, which is the one that ROUGE uses. Snowball's 'English' is another.
//!
//! M. F. Porter, 'An algorithm for suffix stripping', Program 14(3), 1980; the departures marked *NLTK* are those of
//! `nltk.stem.PorterStemmer` in its default mode. Knows words of ASCII letters and digits in lower case.

/// Words that have their stem in a list. *NLTK*
const IRREGULAR: &[(&str, &str)] = &[
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Suffixes of step 2 and what stands for them after a stem with a measure above 0.
const STEP_2: &[(&str, &str)] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

/// The same of step 3.
const STEP_3: &[(&str, &str)] =
    &[("icate", "ic"), ("ative", ""), ("alize", "al"), ("iciti", "ic"), ("ical", "ic"), ("ful", ""), ("ness", "")];

/// Suffixes that step 4 takes off stems with a measure above 1. `ion` asks for `s` or `t` before it.
const STEP_4: &[&str] = &[
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti",
    "ous", "ive", "ize",
];

/// The stem of `word`.
pub(super) fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_string();
    }
    if word.len() <= 2 {
        return word.to_string();
    }
    let word = step_1c(step_1b(step_1a(word)));
    let word = step_3(step_2(word));
    step_5b(step_5a(step_4(word)))
}

/// Plurals: `caresses` → `caress`, `ponies` → `poni`, `cats` → `cat`.
fn step_1a(word: &str) -> String {
    let cut = |letters: usize| word[..word.len() - letters].to_string();
    if word.ends_with("ies") {
        // *NLTK*: `dies` → `die`, but `flies` → `fli`.
        cut(if word.len() == 4 { 1 } else { 2 })
    } else if word.ends_with("sses") {
        cut(2)
    } else if word.ends_with('s') && !word.ends_with("ss") {
        cut(1)
    } else {
        word.to_string()
    }
}

/// Past and progressive: `agreed` → `agree`, `plastered` → `plaster`, `hopping` → `hop`, `filing` → `file`.
fn step_1b(word: String) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        // *NLTK*: `died` → `die`, but `spied` → `spi`.
        return format!("{stem}{}", if word.len() == 4 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 { format!("{stem}ee") } else { word };
    }
    let stem = ["ed", "ing"].iter().find_map(|suffix| word.strip_suffix(suffix).filter(|stem| has_vowel(stem)));
    let Some(stem) = stem else { return word };
    if stem.ends_with("at") || stem.ends_with("bl") || stem.ends_with("iz") {
        format!("{stem}e")
    } else if ends_with_double_consonant(stem) {
        let keeps_both = stem.ends_with(['l', 's', 'z']);
        stem[..stem.len() - usize::from(!keeps_both)].to_string()
    } else if measure(stem) == 1 && ends_cvc(stem) {
        format!("{stem}e")
    } else {
        stem.to_string()
    }
}

/// `happy` → `happi`. *NLTK*: after a consonant that does not stand alone, so `enjoy` stays and `fly` → `fli`.
fn step_1c(word: String) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.len() > 1 && consonants(stem).last() == Some(&true) => format!("{stem}i"),
        _ => word,
    }
}

fn step_2(word: String) -> String {
    // *NLTK*: `alli` comes first, and what it leaves goes through the step again.
    if let Some(stem) = word.strip_suffix("alli").filter(|stem| measure(stem) > 0) {
        return step_2(format!("{stem}al"));
    }
    // *NLTK*: the `l` of `logi` counts as part of the stem, so that `geologi` → `geolog`. No rule of the list ends so.
    if let Some(stem) = word.strip_suffix("ogi").filter(|stem| stem.ends_with('l')) {
        return if measure(stem) > 0 { format!("{stem}og") } else { word };
    }
    replace_first(word, STEP_2)
}

fn step_3(word: String) -> String {
    replace_first(word, STEP_3)
}

fn step_4(word: String) -> String {
    let Some(stem) = STEP_4.iter().find_map(|suffix| word.strip_suffix(suffix).map(|stem| (stem, *suffix))) else {
        return word;
    };
    let (stem, suffix) = stem;
    if measure(stem) > 1 && (suffix != "ion" || stem.ends_with(['s', 't'])) { stem.to_string() } else { word }
}

/// `probate` → `probat`, `cease` → `ceas`, but `rate` stays.
fn step_5a(word: String) -> String {
    match word.strip_suffix('e') {
        Some(stem) if measure(stem) > 1 || (measure(stem) == 1 && !ends_cvc(stem)) => stem.to_string(),
        _ => word,
    }
}

/// `controll` → `control`, but `roll` stays.
fn step_5b(word: String) -> String {
    match word.strip_suffix('l') {
        Some(rest) if rest.ends_with('l') && measure(rest) > 1 => rest.to_string(),
        _ => word,
    }
}

/// The first rule whose suffix fits decides, whether its stem has a measure above 0 or not.
fn replace_first(word: String, rules: &[(&str, &str)]) -> String {
    let rule = rules.iter().find_map(|(suffix, replacement)| Some((word.strip_suffix(suffix)?, replacement)));
    match rule {
        Some((stem, replacement)) if measure(stem) > 0 => format!("{stem}{replacement}"),
        _ => word,
    }
}

/// Whether each letter is a consonant. A `y` is one at the start and after a vowel.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word.bytes() {
        flags.push(match letter {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => flags.last().is_none_or(|before| !before),
            _ => true,
        });
    }
    flags
}

/// Porter's m: how often a consonant follows a vowel.
fn measure(stem: &str) -> usize {
    consonants(stem).windows(2).filter(|pair| **pair == [false, true]).count()
}

fn has_vowel(stem: &str) -> bool {
    consonants(stem).contains(&false)
}

fn ends_with_double_consonant(word: &str) -> bool {
    let bytes = word.as_bytes();
    let n = bytes.len();
    n >= 2 && bytes[n - 1] == bytes[n - 2] && consonants(word)[n - 1]
}

/// Whether the word ends in consonant, vowel, consonant, the last not `w`, `x`, `y`. *NLTK*: or is vowel, consonant.
fn ends_cvc(word: &str) -> bool {
    match consonants(word)[..] {
        [false, true] => true,
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        _ => false,
    }
}
