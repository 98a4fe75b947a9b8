//! What calls cost, and whether there is enough for the next one.
//!
//! Pure. Amounts are whole numbers of a millionth of a millionth of the currency, so that sums are exact. Before a call the
//! most that it can cost is set aside; so what is spent is never more than is allowed.

use super::Tokens;

/// What a million tokens cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Of questions.
    pub input: f64,
    /// Of answers.
    pub output: f64,
}

const UNIT: f64 = 1e12;

/// A sum of money.
#[derive(Debug)]
pub(super) struct Purse {
    /// Of one token.
    input: u128,
    output: u128,
    most: Option<u128>,
    spent: u128,
    /// For calls that are on their way.
    reserved: u128,
}

/// Whether a call can be afforded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It can; so much is set aside.
    Yes(u128),
    /// Perhaps, when others have come back for less than was set aside.
    Later,
    /// It cannot; it may cost so much.
    No(u128),
}

impl Purse {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "amounts are checked when they are read"
    )]
    pub(super) fn new(price: Option<Price>, most: Option<f64>) -> Self {
        let amount = |amount: f64| amount.round() as u128;
        Self {
            input: amount(price.map_or(0.0, |price| price.input) * UNIT / 1e6),
            output: amount(price.map_or(0.0, |price| price.output) * UNIT / 1e6),
            most: most.map(units),
            spent: 0,
            reserved: 0,
        }
    }

    pub(super) fn cost(&self, tokens: Tokens) -> u128 {
        u128::from(tokens.input) * self.input + u128::from(tokens.output) * self.output
    }

    /// A reply that was there already, or a call that is over.
    pub(super) fn spend(&mut self, cost: u128) {
        self.spent += cost;
    }

    pub(super) fn reserve(&mut self, tokens: Tokens) -> Verdict {
        let cost = self.cost(tokens);
        match self.most {
            Some(most) if self.spent + self.reserved + cost > most => match self.reserved {
                0 => Verdict::No(cost),
                _ => Verdict::Later,
            },
            _ => {
                self.reserved += cost;
                Verdict::Yes(cost)
            }
        }
    }

    pub(super) fn release(&mut self, reserved: u128) {
        self.reserved -= reserved;
    }

    pub(super) fn spent(&self) -> f64 {
        money(self.spent)
    }
}

/// An amount that people wrote.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked when it is read")]
pub(super) fn units(amount: f64) -> u128 {
    (amount * UNIT).round() as u128
}

#[expect(clippy::cast_precision_loss, reason = "shown to people")]
pub(super) fn money(amount: u128) -> f64 {
    amount as f64 / UNIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_spent_than_is_allowed() {
        let price = Price { input: 1.0, output: 10.0 };
        let mut purse = Purse::new(Some(price), Some(0.000_1));
        let call = Tokens { input: 10, output: 3 };
        assert_eq!(purse.cost(call), 40_000_000);
        let Verdict::Yes(first) = purse.reserve(call) else { panic!() };
        let Verdict::Yes(second) = purse.reserve(call) else { panic!() };
        assert_eq!(purse.reserve(call), Verdict::Later);
        purse.release(first);
        purse.spend(purse.cost(Tokens { input: 10, output: 1 }));
        let Verdict::Yes(third) = purse.reserve(call) else { panic!("the first came back for less") };
        for reserved in [second, third] {
            purse.release(reserved);
            purse.spend(reserved);
        }
        assert_eq!((purse.spent(), purse.reserve(call)), (0.000_1, Verdict::No(40_000_000)));
        assert_eq!(purse.reserve(Tokens::default()), Verdict::Yes(0), "all of it may be spent");
    }

    #[test]
    fn without_a_limit_everything_can_be_afforded() {
        let mut purse = Purse::new(None, None);
        assert_eq!(purse.reserve(Tokens { input: u64::MAX, output: u64::MAX }), Verdict::Yes(0));
    }
}
