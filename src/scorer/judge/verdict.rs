//! What a judge said → numbers. Judges write `8,6`, but also `7.5, 8`, `8/10,9/10`, and `Response 1: 8`; what can be read in
//! two ways is not read.

use serde_json::Value;

/// What a judge said of the responses, in the order in which they were shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Of the first.
    pub first: f64,
    /// Of the second, if it was shown.
    pub second: Option<f64>,
}

/// The least and the greatest number that a judge may say.
pub type Scale = (f64, f64);

/// Two numbers: a line of nothing else, or the only two of the whole answer.
pub fn scores(text: &str, scale: Scale) -> Option<Verdict> {
    let found = the_numbers(text, scale, 2)?;
    Some(Verdict { first: found[0], second: Some(found[1]) })
}

/// One number: a line of nothing else, or the only one of the whole answer.
pub fn rating(text: &str, scale: Scale) -> Option<Verdict> {
    let found = the_numbers(text, scale, 1)?;
    Some(Verdict { first: found[0], second: None })
}

/// Which is better: 1 and 0, or 0 and 1, or ½ each. The only verdict in double brackets (`[[A]]`), else the first line that is
/// nothing but one: a letter, a number, `tie`, perhaps behind `response` or `answer`.
pub fn preference(text: &str) -> Option<Verdict> {
    let in_brackets: Vec<&str> =
        text.split("[[").skip(1).filter_map(|rest| rest.split_once("]]")).map(|(word, _)| word).collect();
    match in_brackets.as_slice() {
        [] => text.lines().find_map(winner),
        words => {
            let first = winner(words[0]);
            first.filter(|_| words.iter().all(|word| winner(word) == first))
        }
    }
}

fn winner(line: &str) -> Option<Verdict> {
    let word: String = line.chars().filter(|c| c.is_alphanumeric() || *c == ' ').collect::<String>().to_lowercase();
    let mut word = word.trim();
    for prefix in ["verdict", "winner", "response", "answer", "assistant", "the"] {
        word = word.strip_prefix(prefix).map_or(word, str::trim_start);
    }
    let (first, second) = match word {
        "a" | "1" | "first" | "one" => (1.0, 0.0),
        "b" | "2" | "second" | "two" => (0.0, 1.0),
        "c" | "tie" | "draw" | "equal" | "both" | "neither" => (0.5, 0.5),
        _ => return None,
    };
    Some(Verdict { first, second: Some(second) })
}

/// Numbers at places of the JSON object that the answer is, or holds: `scores.first`.
pub fn fields(text: &str, scale: Scale, first: &str, second: Option<&str>) -> Option<Verdict> {
    let object = objects(text).next()?;
    let number = |path: &str| {
        let value = path.split('.').try_fold(&object, |value, name| value.get(name))?;
        let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
        is_within(number, scale).then_some(number)
    };
    let second = match second {
        None => None,
        Some(path) => Some(number(path)?),
    };
    Some(Verdict { first: number(first)?, second })
}

/// JSON objects in a text, from its beginning; what stands around them is passed over.
fn objects(text: &str) -> impl Iterator<Item = Value> {
    text.match_indices('{').filter_map(|(begin, _)| {
        let mut values = serde_json::Deserializer::from_str(&text[begin..]).into_iter::<Value>();
        values.next()?.ok()
    })
}

fn is_within(number: f64, (least, most): Scale) -> bool {
    (least..=most).contains(&number)
}

/// So many numbers of the scale. A line that holds them and no word goes before all others, the first such; else the
/// answer holds no further number. Labels (`Response 1:`) and the scale's end (`/10`) are no numbers.
fn the_numbers(text: &str, scale: Scale, wanted: usize) -> Option<Vec<f64>> {
    let is_right = |found: &Vec<f64>| found.len() == wanted && found.iter().all(|number| is_within(*number, scale));
    let bare = |line: &&str| !line.chars().any(char::is_alphabetic);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut alone = lines().filter(bare).map(|line| numbers(line, scale)).filter(|found| found.len() == wanted);
    if let Some(found) = alone.next() {
        // Numbers off the scale are no rating, and another line is not guessed to be one.
        return Some(found).filter(is_right);
    }
    Some(lines().flat_map(|line| numbers(line, scale)).collect()).filter(is_right)
}

/// The numbers of a line, without labels and the scale's end.
fn numbers(line: &str, (_, most): Scale) -> Vec<f64> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(begin) = rest.find(|c: char| c.is_ascii_digit()) {
        let before = &rest[..begin];
        let length = number_length(&rest[begin..]);
        let (digits, after) = rest[begin..].split_at(length);
        rest = after;
        let is_glued = before.ends_with(|c: char| c.is_alphabetic());
        let Some(number) = digits.parse::<f64>().ok().filter(|_| !is_glued) else { continue };
        let is_scale = before.trim_end().ends_with('/') && !found.is_empty() && number == most;
        let out_of = before.trim_end().to_lowercase().ends_with("out of") && number == most;
        if !is_scale && !out_of && !is_label(before, after) {
            found.push(if before.ends_with('-') { -number } else { number });
        }
    }
    found
}

/// Length of the number that a text begins with: digits, and perhaps a point and more of them.
fn number_length(text: &str) -> usize {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let whole = digits(text);
    match text[whole..].strip_prefix('.').map(digits) {
        Some(fraction @ 1..) => whole + 1 + fraction,
        _ => whole,
    }
}

/// Whether a number is the name of a response: behind such a word, and before a colon or what else ends a name.
fn is_label(before: &str, after: &str) -> bool {
    let word = before.trim_end().trim_end_matches(['#', '*', '(']).trim_end().to_lowercase();
    let is_named = ["response", "answer", "assistant", "option", "candidate"].iter().any(|name| word.ends_with(name));
    let after = after.trim_start_matches(['*', ')', ' ']);
    is_named && (after.is_empty() || after.starts_with([':', '=', '-', ',']) || after.starts_with(char::is_alphabetic))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN: Scale = (0.0, 10.0);

    #[test]
    fn two_scores_are_read_as_judges_write_them() {
        for (text, expected) in [
            ("8,6", (8.0, 6.0)),
            ("7.5, 8", (7.5, 8.0)),
            ("8/10,9/10", (8.0, 9.0)),
            ("8 / 10, 10 / 10", (8.0, 10.0)),
            ("```csv\n9,4\n```", (9.0, 4.0)),
            ("Response 1: 8\nResponse 2: 6", (8.0, 6.0)),
            ("**Response 1**: 8/10\n**Response 2**: 6/10", (8.0, 6.0)),
            ("response 1,response 2\n3,10", (3.0, 10.0)),
            ("The first is better in 2 ways.\n9,7\nBoth are fine.", (9.0, 7.0)),
            ("I give 8 out of 10 and 7 out of 10.", (8.0, 7.0)),
            ("10;0", (10.0, 0.0)),
        ] {
            let expected = Verdict { first: expected.0, second: Some(expected.1) };
            assert_eq!(scores(text, TEN), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_verdict_is_not_read_as_one() {
        for text in
            ["", "8", "8,6,7", "11,6", "-1,5", "eight, six", "8,6 or 7,5", "N/A,5", "I cannot rate these.", "80,60"]
        {
            assert_eq!(scores(text, TEN), None, "{text}");
        }
        for text in ["", "7,8", "11", "between 6 and 8"] {
            assert_eq!(rating(text, TEN), None, "{text}");
        }
        assert_eq!(rating("Rating: 7/10", TEN), Some(Verdict { first: 7.0, second: None }));
        assert_eq!(rating("Good work on all 3 points.\n\n[[8.5]]", TEN), Some(Verdict { first: 8.5, second: None }));
    }

    #[test]
    fn a_preference_is_a_line_of_its_own_or_in_brackets() {
        let first = |text| preference(text).map(|verdict| verdict.first);
        for text in ["A", "[[A]]", "A is longer, but…\n\n[[A]]", "Response 1", "**Verdict: A**", "1."] {
            assert_eq!(first(text), Some(1.0), "{text}");
        }
        assert_eq!((first("B"), first("tie"), first("[[C]]")), (Some(0.0), Some(0.5), Some(0.5)));
        for text in ["", "A or B", "[[A]] … no, [[B]]", "Both responses are bad, A more so"] {
            assert_eq!(first(text), None, "{text}");
        }
    }

    #[test]
    fn fields_of_json_are_found_in_what_stands_around_them() {
        let text = "Here you are:\n```json\n{\"why\": \"{x}\", \"s\": {\"a\": 7, \"b\": \"8.5\"}}\n```";
        let expected = Verdict { first: 7.0, second: Some(8.5) };
        assert_eq!(fields(text, TEN, "s.a", Some("s.b")), Some(expected));
        assert_eq!(fields(text, TEN, "s.a", None), Some(Verdict { first: 7.0, second: None }));
        assert_eq!(fields(text, (0.0, 5.0), "s.a", None), None, "off the scale");
        assert_eq!(fields(text, TEN, "s.c", None), None);
        assert_eq!(fields("{\"s\": ", TEN, "s", None), None);
    }
}
