//! Many calls at once: what is in the ledger is taken from there, the rest is asked, each question once.

use super::client::Client;
use super::pace::{Pace, Times};
use super::purse::{Purse, Verdict, money, units};
use super::reply::Reply;
use super::shared::SharedPace;
use super::trouble::Trouble;
use super::{Call, Tokens};
use crate::key::Digest;
use futures_util::StreamExt as _;
use futures_util::stream;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Until it is looked again whether it is one's turn, or whether there is money.
const GLANCE: Duration = Duration::from_millis(20);
/// Until it is looked again whether all is to stop.
const NAP: Duration = Duration::from_millis(200);
/// Of text, about; a token has at least one.
const BYTES_PER_TOKEN: u64 = 4;

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Told {
    /// Calls that have a reply.
    pub answered: usize,
    /// Of these, those that were asked now.
    pub asked: usize,
    /// What all replies have cost, whenever they were asked, and what may have been charged without one.
    pub cost: f64,
}

/// Why not all calls have a reply; those that have one are in the ledger.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct Failure {
    /// What is wrong.
    pub reason: String,
    /// The call, if it lies in that.
    pub call: Option<usize>,
    /// How far it was.
    pub told: Told,
}

/// What calls that are made at the same time share.
struct Desk<'a> {
    client: &'a Client,
    /// Of this client alone, since the moment when it began.
    pace: Pace,
    times: RefCell<Times>,
    began: Instant,
    /// Of all who ask the endpoint.
    shared: SharedPace,
    purse: RefCell<Purse>,
    /// After a failure nothing new is asked; what is on its way is waited for.
    stopping: Cell<bool>,
}

impl Client {
    /// The replies to calls, in their order. Equal calls are made once, and none that is in the ledger. `told` hears of each
    /// that is there.
    ///
    /// # Errors
    /// At the first call that will have no reply; what was on its way then is waited for, and kept.
    pub fn ask(&self, calls: &[Call], told: &mut dyn FnMut(Told)) -> Result<Vec<Reply>, Failure> {
        let settings = &self.settings;
        let per_second = settings.requests_per_minute.map(|rate| rate / 60.0);
        let shared = Pace::new(per_second, settings.tokens_per_minute);
        let shared = SharedPace::new(shared, self.ledger.folder(), &settings.endpoint);
        let pace = Pace::new(settings.requests_per_second, None);
        let purse = Purse::new(settings.price, settings.max_cost);
        let (times, began) = (RefCell::default(), Instant::now());
        let stopping = Cell::new(false);
        let desk = Desk { client: self, pace, times, began, shared, purse: purse.into(), stopping };
        let mut places: BTreeMap<Digest, Vec<usize>> = BTreeMap::new();
        for (place, call) in calls.iter().enumerate() {
            places.entry(call.key(&settings.endpoint)).or_default().push(place);
        }
        let mut replies: Vec<Option<Reply>> = vec![None; calls.len()];
        let mut now = Told::default();
        let mut fill =
            |places: &[usize], reply: &Reply| places.iter().for_each(|place| replies[*place] = Some(reply.clone()));
        // Before anything is asked it must be known what was spent.
        let mut open: Vec<(Digest, Vec<usize>)> = Vec::new();
        for (key, places) in places {
            match desk.known(&key) {
                Some(reply) => {
                    desk.spend(desk.cost(&reply, calls[places[0]].most));
                    now.answered += places.len();
                    fill(&places, &reply);
                }
                None => open.push((key, places)),
            }
        }
        // In the order of the calls.
        open.sort_by_key(|(_, places)| places[0]);
        now.cost = desk.purse.borrow().spent();
        told(now);
        let mut failed: Option<(Trouble, usize)> = None;
        self.runtime.block_on(async {
            let desk = &desk;
            let asked =
                open.iter().map(|(key, places)| async move { (places, desk.reply(key, &calls[places[0]]).await) });
            let mut asked = stream::iter(asked).buffer_unordered(settings.concurrency.max(1));
            while let Some((places, result)) = asked.next().await {
                match result {
                    Ok((reply, is_new)) => {
                        fill(places, &reply);
                        now.answered += places.len();
                        now.asked += usize::from(is_new);
                        now.cost = desk.purse.borrow().spent();
                        told(now);
                    }
                    Err(trouble) => {
                        desk.stopping.set(true);
                        if failed.is_none() && trouble != Trouble::Skipped {
                            failed = Some((trouble, places[0]));
                        }
                    }
                }
            }
        });
        now.cost = desk.purse.borrow().spent();
        match (failed, replies.into_iter().collect()) {
            (None, Some(replies)) => Ok(replies),
            (failed, _) => Err(failure(failed, now)),
        }
    }
}

fn failure(failed: Option<(Trouble, usize)>, told: Told) -> Failure {
    match failed {
        Some((Trouble::Passing(passing), _)) => {
            let reason = format!("{} (tries: {})", passing.reason, passing.most_tries);
            Failure { reason, call: None, told }
        }
        Some((Trouble::Lasting { reason, of_question }, call)) => {
            Failure { reason, call: of_question.then_some(call), told }
        }
        Some((Trouble::Skipped, _)) | None => Failure { reason: "a reply is missing".to_string(), call: None, told },
    }
}

/// What is set aside for a call that is on its way; what of it was not spent goes back.
struct Aside<'a> {
    desk: &'a Desk<'a>,
    amount: u128,
    spent: u128,
}

impl Aside<'_> {
    fn spend(&mut self, cost: u128) {
        self.desk.spend(cost);
        self.spent = cost;
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        let Self { desk, amount, spent } = self;
        desk.purse.borrow_mut().release(*amount);
        if let Some(till) = &desk.client.settings.till {
            till.give_back(amount.saturating_sub(*spent));
        }
    }
}

impl Desk<'_> {
    /// A reply that is in the ledger.
    fn known(&self, key: &Digest) -> Option<Reply> {
        Reply::read(&self.client.ledger.get(key)?).ok()
    }

    /// What a reply has cost: the most that it can, if its tokens are not known.
    fn cost(&self, reply: &Reply, most: Tokens) -> u128 {
        self.purse.borrow().cost(reply.tokens.unwrap_or(most))
    }

    fn spend(&self, cost: u128) {
        self.purse.borrow_mut().spend(cost);
    }

    /// The reply to a call, and whether it was asked now.
    async fn reply(&self, key: &Digest, call: &Call) -> Result<(Reply, bool), Trouble> {
        let lasting = |error: anyhow::Error| Trouble::lasting(format!("{error:#}"));
        let ledger = &self.client.ledger;
        // Somebody else may ask the same at this moment.
        let _turn = loop {
            self.go_on()?;
            match ledger.try_turn(key).map_err(lasting)? {
                Some(turn) => break turn,
                None => sleep(GLANCE).await,
            }
        };
        ledger.refresh().map_err(lasting)?;
        if let Some(reply) = self.known(key) {
            self.spend(self.cost(&reply, call.most));
            return Ok((reply, false));
        }
        for tries in 1.. {
            let mut aside = self.afford(call.most).await?;
            let expected = call.most.output + call.most.input / BYTES_PER_TOKEN;
            self.wait(expected).await;
            let result = match self.stopping.get() {
                true => Err(Trouble::Skipped),
                false => self.client.post(call).await,
            };
            let passing = match result {
                Ok((value, reply)) => {
                    aside.spend(self.cost(&reply, call.most));
                    let tokens = reply.tokens.unwrap_or(call.most);
                    self.shared.settle(expected, tokens.input + tokens.output);
                    let settings = &self.client.settings;
                    ledger.keep(key, &settings.endpoint, &settings.model, &value).map_err(lasting)?;
                    return Ok((reply, true));
                }
                Err(Trouble::Passing(passing)) => passing,
                Err(other) => return Err(other),
            };
            if passing.charged {
                aside.spend(aside.amount);
            }
            drop(aside);
            if let Some(pause) = passing.pause {
                self.shared.hold(pause);
            }
            match passing.pause(self.client.settings.pause, tries, key) {
                Some(pause) => self.rest(pause).await,
                None => return Err(Trouble::Passing(passing)),
            }
            self.go_on()?;
        }
        unreachable!("numbers do not end")
    }

    fn go_on(&self) -> Result<(), Trouble> {
        if self.stopping.get() { Err(Trouble::Skipped) } else { Ok(()) }
    }

    /// Sets aside what a call may cost.
    async fn afford(&self, most: Tokens) -> Result<Aside<'_>, Trouble> {
        loop {
            self.go_on()?;
            let verdict = self.purse.borrow_mut().reserve(most);
            match verdict {
                Verdict::Yes(reserved) => {
                    let Err(taken) = self.take(reserved) else {
                        return Ok(Aside { desk: self, amount: reserved, spent: 0 });
                    };
                    self.purse.borrow_mut().release(reserved);
                    let most = self.client.settings.till.as_ref().map_or(0.0, |till| till.most);
                    let (taken, cost) = (money(taken), money(reserved));
                    return Err(Trouble::lasting(format!(
                        "`max_cost` in `[limits]` is {most}: {taken:.6} of it is spent or set aside by the run, and the \
                         next call may cost {cost:.6}"
                    )));
                }
                Verdict::Later => sleep(GLANCE).await,
                Verdict::No(cost) => {
                    let (spent, cost) = (self.purse.borrow().spent(), money(cost));
                    let limit = self.client.settings.max_cost.unwrap_or_default();
                    return Err(Trouble::lasting(format!(
                        "`max_cost` is {limit}: {spent:.6} of it is spent, and the next call may cost {cost:.6}"
                    )));
                }
            }
        }
    }

    /// Takes it from what the run may spend; else says what is taken already.
    fn take(&self, amount: u128) -> Result<(), u128> {
        match &self.client.settings.till {
            Some(till) => till.take(amount, units(till.most)),
            None => Ok(()),
        }
    }

    /// Until the call may begin.
    async fn wait(&self, tokens: u64) {
        while !self.stopping.get() {
            let now = self.began.elapsed();
            let own = self.pace.delay(&self.times.borrow(), now);
            let delay = if own.is_zero() { self.shared.begin(tokens).err() } else { Some(own) };
            match delay {
                None => return self.pace.begin(&mut self.times.borrow_mut(), now, tokens),
                Some(delay) => self.rest(delay).await,
            }
        }
    }

    /// Sleeps, until all is to stop.
    async fn rest(&self, pause: Duration) {
        let end = Instant::now() + pause;
        while !self.stopping.get() && Instant::now() < end {
            sleep(end.saturating_duration_since(Instant::now()).min(NAP)).await;
        }
    }
}
