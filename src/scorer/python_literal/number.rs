//! Numbers by their exact value, so that `1`, `1.0`, `True` and `1 + 0j` are the same.

use super::Literal;
use anyhow::{Context as _, bail, ensure};

/// A real number. A float that is a whole number is that number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::scorer) enum Real {
    Whole(Whole),
    /// The bits of a float that is no whole number: a fraction, or infinite.
    Fraction(u64),
}

/// A whole number of any size.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::scorer) struct Whole {
    is_negative: bool,
    /// Digits to the base 2^32, the lowest first; the last one is not zero.
    digits: Vec<u32>,
}

/// Python reads no whole numbers of more decimal digits.
const MOST_DIGITS: usize = 4300;

impl Whole {
    fn add(&mut self, factor: u32, summand: u32) {
        let mut carry = u64::from(summand);
        for digit in &mut self.digits {
            let value = u64::from(*digit) * u64::from(factor) + carry;
            #[expect(clippy::cast_possible_truncation, reason = "the upper half is carried on")]
            let low = value as u32;
            *digit = low;
            carry = value >> 32;
        }
        if let Ok(carry @ 1..) = u32::try_from(carry) {
            self.digits.push(carry);
        }
    }

    /// Of decimal digits.
    fn of_decimal(digits: &str) -> Self {
        let mut whole = Self::default();
        for digit in digits.bytes() {
            whole.add(10, u32::from(digit - b'0'));
        }
        whole
    }

    /// Of digits of so many bits.
    fn of_bits(digits: &str, width: u32) -> Self {
        let mut whole = Self::default();
        let (mut digit, mut filled) = (0_u64, 0);
        for c in digits.chars().rev() {
            digit |= u64::from(c.to_digit(1 << width).unwrap_or(0)) << filled;
            filled += width;
            if filled >= 32 {
                whole.push_low(&mut digit);
                filled -= 32;
            }
        }
        whole.push_low(&mut digit);
        whole.trim();
        whole
    }

    fn push_low(&mut self, digit: &mut u64) {
        #[expect(clippy::cast_possible_truncation, reason = "the upper half stays")]
        self.digits.push(*digit as u32);
        *digit >>= 32;
    }

    fn trim(&mut self) {
        while self.digits.last() == Some(&0) {
            self.digits.pop();
        }
    }

    /// Of a float that is a whole number.
    fn of_float(number: f64) -> Self {
        let bits = number.abs().to_bits();
        let exponent = bits >> 52;
        // Whole numbers are zero, or at least 1: their leading bit is not written.
        let mantissa = if number == 0.0 { 0 } else { bits & ((1 << 52) - 1) | 1 << 52 };
        let shift = exponent.saturating_sub(1075);
        let mantissa = mantissa >> 1075_u64.saturating_sub(exponent).min(63);
        let mut whole = Self { is_negative: number < 0.0, digits: vec![0; (shift / 32) as usize] };
        let mut wide = u128::from(mantissa) << (shift % 32);
        while wide > 0 {
            #[expect(clippy::cast_possible_truncation, reason = "the rest comes next")]
            whole.digits.push(wide as u32);
            wide >>= 32;
        }
        whole.trim();
        whole
    }
}

impl Real {
    fn of_float(number: f64) -> Self {
        match number.is_finite() && number.fract() == 0.0 {
            true => Real::Whole(Whole::of_float(number)),
            false => Real::Fraction(number.to_bits()),
        }
    }

    fn negative(self) -> Self {
        match self {
            Real::Whole(Whole { is_negative, digits }) => {
                Real::Whole(Whole { is_negative: !is_negative && !digits.is_empty(), digits })
            }
            Real::Fraction(bits) => Real::Fraction((-f64::from_bits(bits)).to_bits()),
        }
    }

    /// As a part of a complex number, which has two floats.
    fn rounded(self) -> anyhow::Result<Self> {
        let Real::Whole(Whole { is_negative, digits }) = &self else { return Ok(self) };
        // Python rounds to the nearest, as reading its digits does.
        let hex: String = digits.iter().rev().map(|digit| format!("{digit:08x}")).collect();
        let number = nearest(&hex);
        ensure!(number.is_finite(), "a whole number that is too large for a complex number");
        Ok(Real::of_float(if *is_negative { -number } else { number }))
    }
}

/// The float nearest to a hexadecimal number; of two, the one whose last bit is 0.
fn nearest(hex: &str) -> f64 {
    let hex = hex.trim_start_matches('0');
    // 60 bits, and whether anything stands behind them.
    let (head, tail) = hex.split_at(hex.len().min(15));
    let mut value = u64::from_str_radix(head, 16).unwrap_or(0) << 1;
    value |= u64::from(tail.bytes().any(|digit| digit != b'0'));
    let power = tail.len() as i32 * 4 - 1;
    // A step at a time: 2^power alone may be infinite where the product is not.
    let mut number = value as f64;
    for _ in 0..power.clamp(0, 5000) {
        number *= 2.0;
    }
    if power < 0 { number / 2.0 } else { number }
}

fn real(real: Real) -> Literal {
    Literal::Number { real, imaginary: Real::Whole(Whole::default()) }
}

pub(super) fn boolean(value: bool) -> Literal {
    real(Real::Whole(Whole { is_negative: false, digits: if value { vec![1] } else { Vec::new() } }))
}

pub(super) fn negative(value: Literal) -> Literal {
    match value {
        Literal::Number { real, imaginary } => {
            Literal::Number { real: real.negative(), imaginary: imaginary.negative() }
        }
        other => other,
    }
}

/// `real + imaginary` or `real - imaginary`.
pub(super) fn complex(left: Literal, right: Literal, is_minus: bool) -> anyhow::Result<Literal> {
    match (left, right) {
        (Literal::Number { real, .. }, Literal::Number { imaginary, .. }) => {
            let imaginary = if is_minus { imaginary.negative() } else { imaginary };
            Ok(Literal::Number { real: real.rounded()?, imaginary })
        }
        _ => bail!("a sum that is no complex number"),
    }
}

/// The number that `text` begins with, whether it is imaginary, and the rest.
pub(super) fn read(text: &str) -> anyhow::Result<(Literal, bool, &str)> {
    let based = |prefix: [&str; 2]| prefix.iter().find_map(|prefix| text.strip_prefix(prefix));
    for (prefix, width) in [(["0x", "0X"], 4), (["0o", "0O"], 3), (["0b", "0B"], 1)] {
        if let Some(rest) = based(prefix) {
            let rest = rest.strip_prefix('_').unwrap_or(rest);
            let (digits, rest) = digits(rest, 1 << width);
            ensure!(!digits.is_empty(), "a number without digits");
            return Ok((real(Real::Whole(Whole::of_bits(&digits, width))), false, ended(rest)?));
        }
    }
    let (mut number, mut rest) = digits(text, 10);
    let mut is_float = false;
    if let Some(after) = rest.strip_prefix('.') {
        let (fraction, after) = digits(after, 10);
        number = format!("{number}.{fraction}");
        (is_float, rest) = (true, after);
    }
    if let Some(after) = rest.strip_prefix(['e', 'E']) {
        let sign = if after.starts_with('-') { "-" } else { "" };
        let (exponent, after) = digits(after.strip_prefix(['-', '+']).unwrap_or(after), 10);
        ensure!(!exponent.is_empty(), "an exponent without digits");
        number = format!("{number}e{sign}{exponent}");
        (is_float, rest) = (true, after);
    }
    let imaginary = rest.strip_prefix(['j', 'J']);
    if is_float || imaginary.is_some() {
        let float: f64 = number.parse().with_context(|| format!("`{number}`"))?;
        return Ok(match imaginary {
            None => (real(Real::of_float(float)), false, ended(rest)?),
            Some(rest) => {
                let number = Literal::Number { real: Real::Whole(Whole::default()), imaginary: Real::of_float(float) };
                (number, true, ended(rest)?)
            }
        });
    }
    ensure!(!number.starts_with('0') || number.bytes().all(|digit| digit == b'0'), "a number with zeros before it");
    ensure!(number.len() <= MOST_DIGITS, "a number of more than {MOST_DIGITS} digits");
    Ok((real(Real::Whole(Whole::of_decimal(&number))), false, ended(rest)?))
}

/// Digits of a base with single underscores between them, and the rest.
fn digits(text: &str, base: u32) -> (String, &str) {
    let mut found = String::new();
    let mut rest = text;
    loop {
        let next = if found.is_empty() { rest } else { rest.strip_prefix('_').unwrap_or(rest) };
        let Some(digit) = next.chars().next().filter(|c| c.is_digit(base)) else { return (found, rest) };
        found.push(digit);
        rest = &next[1..];
    }
}

/// Nothing of a name stands right behind a number.
fn ended(rest: &str) -> anyhow::Result<&str> {
    ensure!(!rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'), "a number that goes on as something else");
    Ok(rest)
}
