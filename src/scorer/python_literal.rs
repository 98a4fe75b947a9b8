//! Literals of Python, as `ast.literal_eval` reads them: parsed, never executed.
//!
//! What is read is kept in a form in which equal values are equal: numbers by their value (`1 == 1.0 == True`), sets and
//! dictionaries without the order in which they were written. Names of characters (`\N{…}`) are not known here.

mod number;
mod text;

use anyhow::{bail, ensure};
use number::Real;
use std::collections::{BTreeMap, BTreeSet};

/// A value that a literal stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Literal {
    None,
    Ellipsis,
    /// Booleans, integers, floats and complex numbers.
    Number {
        real: Real,
        imaginary: Real,
    },
    /// Code points, because Python's strings may hold halves of surrogate pairs.
    Text(Vec<u32>),
    Bytes(Vec<u8>),
    Tuple(Vec<Literal>),
    List(Vec<Literal>),
    Set(BTreeSet<Literal>),
    Dict(BTreeMap<Literal, Literal>),
}

/// The value of `source`.
///
/// # Errors
/// If it is no literal.
pub(super) fn parse(source: &str) -> anyhow::Result<Literal> {
    ensure!(!source.contains('\0'), "a NUL character");
    // Python's line ends are all one, within strings too.
    let source = source.trim_start_matches([' ', '\t']).replace("\r\n", "\n").replace('\r', "\n");
    let mut parser = Parser { rest: &source, depth: 0 };
    parser.skip_empty_lines()?;
    let value = parser.expressions()?;
    parser.skip_space();
    if !parser.rest.is_empty() {
        ensure!(parser.rest.starts_with('\n'), "more text behind the value");
        ensure!(parser.rest.lines().all(is_blank), "more text behind the value");
        // Python finds fault with white space in a last line that does not end.
        let last = parser.rest.rsplit('\n').next().unwrap_or_default();
        ensure!(indent(last).is_empty() || last.contains('#'), "an indented line");
    }
    Ok(value)
}

/// Whether a line has nothing but white space and a comment.
fn is_blank(line: &str) -> bool {
    let content = line.trim_start_matches(SPACE);
    content.is_empty() || content.starts_with('#')
}

/// The white space that a line is indented by. A form feed sets the column back.
fn indent(line: &str) -> &str {
    let space = &line[..line.len() - line.trim_start_matches(SPACE).len()];
    space.rsplit('\u{c}').next().unwrap_or(space)
}

/// White space within a line.
const SPACE: [char; 3] = [' ', '\t', '\u{c}'];

/// Brackets within brackets, at most: Python's limit.
const DEEPEST: usize = 200;

struct Parser<'a> {
    rest: &'a str,
    /// How many brackets are open: within them, lines and comments end nothing.
    depth: usize,
}

/// What a value is to signs and sums.
#[derive(Clone, Copy, PartialEq)]
enum Operand {
    Real,
    /// It stands for itself or before an imaginary number, and takes no second sign.
    SignedReal,
    Imaginary,
    Other,
}

impl<'a> Parser<'a> {
    /// Lines without anything before the first that has something, which must not be indented.
    fn skip_empty_lines(&mut self) -> anyhow::Result<()> {
        loop {
            let (line, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
            if !is_blank(line) && line != "\\" {
                ensure!(indent(line).is_empty(), "an indented line");
                return Ok(());
            }
            ensure!(!rest.is_empty(), "no value");
            self.rest = rest;
        }
    }

    /// Skips what separates tokens.
    fn skip_space(&mut self) {
        loop {
            self.rest = self.rest.trim_start_matches(SPACE);
            if self.rest.starts_with('#') {
                self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..];
            }
            let skipped = match self.rest.strip_prefix("\\\n") {
                Some(rest) if !rest.is_empty() => Some(rest),
                _ if self.depth > 0 => self.rest.strip_prefix('\n'),
                _ => None,
            };
            match skipped {
                Some(rest) => self.rest = rest,
                None => return,
            }
        }
    }

    /// Takes a token, if it comes next.
    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// One value, or several with commas between them: a tuple.
    fn expressions(&mut self) -> anyhow::Result<Literal> {
        let first = self.sum()?;
        if !self.take(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while !self.is_at_end() {
            items.push(self.sum()?);
            if !self.take(",") {
                break;
            }
        }
        Ok(Literal::Tuple(items))
    }

    /// Whether nothing more can come: the end of the line or of the bracket.
    fn is_at_end(&mut self) -> bool {
        self.skip_space();
        self.rest.is_empty() || self.rest.starts_with([')', '\n'])
    }

    /// A value, or a complex number as the sum of its parts.
    fn sum(&mut self) -> anyhow::Result<Literal> {
        self.operation().map(|(value, _)| value)
    }

    fn operation(&mut self) -> anyhow::Result<(Literal, Operand)> {
        let (left, operand) = self.signed()?;
        self.skip_space();
        let is_minus = self.rest.starts_with('-');
        if !is_minus && !self.rest.starts_with('+') {
            return Ok((left, operand));
        }
        self.rest = &self.rest[1..];
        let (right, right_operand) = self.primary()?;
        let is_complex = matches!(operand, Operand::Real | Operand::SignedReal) && right_operand == Operand::Imaginary;
        ensure!(is_complex, "a sum that is no complex number");
        let sum = number::complex(left, right, is_minus)?;
        self.skip_space();
        ensure!(!self.rest.starts_with(['+', '-']), "a sum of more than two parts");
        Ok((sum, Operand::Other))
    }

    /// A value that may have one sign.
    fn signed(&mut self) -> anyhow::Result<(Literal, Operand)> {
        let is_minus = self.take("-");
        if !is_minus && !self.take("+") {
            return self.primary();
        }
        let (value, operand) = self.primary()?;
        let operand = match operand {
            Operand::Real => Operand::SignedReal,
            Operand::Imaginary => Operand::Other,
            _ => bail!("a sign before something else than a number"),
        };
        Ok((if is_minus { number::negative(value) } else { value }, operand))
    }

    /// A value without a sign.
    fn primary(&mut self) -> anyhow::Result<(Literal, Operand)> {
        self.skip_space();
        let Some(first) = self.rest.chars().next() else { bail!("the text ends where a value should stand") };
        let digit_follows = self.rest.chars().nth(1).is_some_and(|c| c.is_ascii_digit());
        if first.is_ascii_digit() || (first == '.' && digit_follows) {
            let (number, is_imaginary, rest) = number::read(self.rest)?;
            self.rest = rest;
            return Ok((number, if is_imaginary { Operand::Imaginary } else { Operand::Real }));
        }
        if matches!(first, '(' | '[' | '{') {
            return self.bracket(first);
        }
        if self.take("...") {
            return Ok((Literal::Ellipsis, Operand::Other));
        }
        if let Some(value) = self.strings()? {
            return Ok((value, Operand::Other));
        }
        self.name().map(|value| (value, Operand::Other))
    }

    fn name(&mut self) -> anyhow::Result<Literal> {
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || !c.is_ascii();
        let end = self.rest.find(|c: char| !is_part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        match name {
            "None" => Ok(Literal::None),
            "True" => Ok(number::boolean(true)),
            "False" => Ok(number::boolean(false)),
            // The only call that is one: there is no other way to write the empty set.
            "set" => {
                ensure!(self.take("("), "a name");
                self.depth += 1;
                ensure!(self.take(")"), "a call");
                self.depth -= 1;
                Ok(Literal::Set(BTreeSet::new()))
            }
            _ => bail!("no literal"),
        }
    }

    fn bracket(&mut self, open: char) -> anyhow::Result<(Literal, Operand)> {
        ensure!(self.depth < DEEPEST, "more than {DEEPEST} brackets in each other");
        self.depth += 1;
        self.rest = &self.rest[1..];
        let value = match open {
            '(' => self.parenthesis(),
            '[' => self.items(']').map(|items| (Literal::List(items), Operand::Other)),
            _ => self.braces().map(|value| (value, Operand::Other)),
        };
        self.depth -= 1;
        value
    }

    /// A tuple, or a value in parentheses, which are nothing to it.
    fn parenthesis(&mut self) -> anyhow::Result<(Literal, Operand)> {
        if self.take(")") {
            return Ok((Literal::Tuple(Vec::new()), Operand::Other));
        }
        let (first, operand) = self.operation()?;
        if self.take(")") {
            return Ok((first, operand));
        }
        ensure!(self.take(","), "a comma is missing");
        let mut items = vec![first];
        items.extend(self.items(')')?);
        Ok((Literal::Tuple(items), Operand::Other))
    }

    /// Values with commas between them, up to the closing bracket.
    fn items(&mut self, close: char) -> anyhow::Result<Vec<Literal>> {
        let close = close.encode_utf8(&mut [0; 4]).to_string();
        let mut items = Vec::new();
        loop {
            if self.take(&close) {
                return Ok(items);
            }
            items.push(self.sum()?);
            if !self.take(",") {
                ensure!(self.take(&close), "a comma or a bracket is missing");
                return Ok(items);
            }
        }
    }

    /// A set or a dictionary.
    fn braces(&mut self) -> anyhow::Result<Literal> {
        let mut entries = BTreeMap::new();
        if self.take("}") {
            return Ok(Literal::Dict(entries));
        }
        let first = self.sum()?;
        if !self.take(":") {
            let comma = self.take(",");
            let mut items = if comma { self.items('}')? } else { Vec::new() };
            ensure!(comma || self.take("}"), "a comma or a bracket is missing");
            items.push(first);
            ensure!(items.iter().all(Literal::is_hashable), "a set of what cannot be in one");
            return Ok(Literal::Set(items.into_iter().collect()));
        }
        let mut key = first;
        loop {
            let value = self.sum()?;
            ensure!(key.is_hashable(), "a key that cannot be one");
            entries.insert(key, value);
            let comma = self.take(",");
            if self.take("}") {
                return Ok(Literal::Dict(entries));
            }
            ensure!(comma, "a comma or a bracket is missing");
            key = self.sum()?;
            ensure!(self.take(":"), "a colon is missing");
        }
    }

    /// One string, or several in a row, which are one. `None` if none comes next.
    fn strings(&mut self) -> anyhow::Result<Option<Literal>> {
        let mut value: Option<Literal> = None;
        loop {
            self.skip_space();
            let Some((next, rest)) = text::read(self.rest)? else { return Ok(value) };
            self.rest = rest;
            value = Some(match (value, next) {
                (None, next) => next,
                (Some(Literal::Text(before)), Literal::Text(next)) => Literal::Text([before, next].concat()),
                (Some(Literal::Bytes(before)), Literal::Bytes(next)) => Literal::Bytes([before, next].concat()),
                _ => bail!("text and bytes in one"),
            });
        }
    }
}

impl Literal {
    /// Whether it can be in a set: what can be changed cannot.
    fn is_hashable(&self) -> bool {
        match self {
            Literal::List(_) | Literal::Set(_) | Literal::Dict(_) => false,
            Literal::Tuple(items) => items.iter().all(Literal::is_hashable),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests;
