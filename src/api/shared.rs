//! What all processes that use a ledger hold to together: the times of calls to an endpoint, and what a run may cost.
//!
//! ```text
//! ledger/pace/ENDPOINT        the times, as JSON; who reads and writes them holds the file's lock
//! ledger/tills/RUN            what calls of the run have cost, or may: a number
//! ```
//!
//! A file that cannot be used is no reason not to ask: then this process holds to it alone.

use super::pace::{Pace, Times};
use crate::key::Digest;
use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The times of calls to an endpoint, whoever makes them.
#[derive(Debug)]
pub(super) struct SharedPace {
    pace: Pace,
    file: PathBuf,
    /// Where the file cannot be used.
    own: RefCell<Times>,
}

impl SharedPace {
    pub(super) fn new(pace: Pace, ledger: &Path, endpoint: &str) -> Self {
        let file = ledger.join("pace").join(Digest::of(endpoint.as_bytes()).to_string());
        Self { pace, file, own: RefCell::default() }
    }

    /// Begins a call of so many tokens, if it is time for it; else says how long to wait.
    pub(super) fn begin(&self, tokens: u64) -> Result<(), Duration> {
        self.change(|times, now| match self.pace.delay(times, now) {
            Duration::ZERO => {
                self.pace.begin(times, now, tokens);
                Ok(())
            }
            delay => Err(delay),
        })
    }

    /// A call had fewer tokens than were expected.
    pub(super) fn settle(&self, expected: u64, tokens: u64) {
        self.change(|times, _| self.pace.settle(times, expected, tokens));
    }

    /// The server wants to be left alone for so long.
    pub(super) fn hold(&self, pause: Duration) {
        self.change(|times, now| times.hold(now + pause));
    }

    fn change<T>(&self, change: impl FnOnce(&mut Times, Duration) -> T) -> T {
        // Processes have no other clock in common; what it jumps is bounded.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let file = locked(&self.file).and_then(|mut file| Some((read(&mut file)?, file)));
        let Some((text, mut file)) = file else { return change(&mut self.own.borrow_mut(), now) };
        let mut times = serde_json::from_str(&text).unwrap_or_else(|_| *self.own.borrow());
        times.bound(now);
        let result = change(&mut times, now);
        // Half a text is read as none.
        let _ = serde_json::to_string(&times).map(|text| write(&mut file, &text));
        *self.own.borrow_mut() = times;
        result
    }
}

/// What the calls of a run may cost, all together.
#[derive(Clone, Debug)]
pub struct Till {
    /// The run's file. It need not exist.
    pub file: PathBuf,
    /// The most.
    pub most: f64,
}

impl Till {
    /// Sets an amount aside; else says what is taken already.
    pub(super) fn take(&self, amount: u128, most: u128) -> Result<(), u128> {
        let Some(mut file) = locked(&self.file) else { return Ok(()) };
        let taken = amount_in(&mut file);
        if taken + amount > most {
            return Err(taken);
        }
        write(&mut file, &(taken + amount).to_string());
        Ok(())
    }

    /// Gives back what was set aside and not spent.
    pub(super) fn give_back(&self, amount: u128) {
        let Some(mut file) = locked(&self.file) else { return };
        let taken = amount_in(&mut file);
        write(&mut file, &taken.saturating_sub(amount).to_string());
    }
}

fn amount_in(file: &mut File) -> u128 {
    read(file).and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// The file, made if it is not there, with its lock, which goes with it.
fn locked(path: &Path) -> Option<File> {
    fs::create_dir_all(path.parent()?).ok()?;
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path).ok()?;
    file.lock().ok()?;
    Some(file)
}

fn read(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some(text)
}

fn write(file: &mut File, text: &str) {
    let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_who_ask_the_same_endpoint_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let asker = |endpoint: &str| SharedPace::new(Pace::new(Some(0.01), None), folder.path(), endpoint);
        let [first, second, elsewhere] = ["https://a/v1", "https://a/v1", "https://b/v1"].map(asker);
        assert_eq!(first.begin(10), Ok(()));
        let delay = second.begin(10).unwrap_err();
        assert!(delay > Duration::from_secs(90) && delay <= Duration::from_secs(100), "{delay:?}");
        assert_eq!(elsewhere.begin(10), Ok(()));
        second.hold(Duration::from_secs(500));
        assert!(first.begin(10).unwrap_err() > Duration::from_secs(400));
        // What is no such file, or of a clock that was wrong, keeps nobody for ever.
        fs::write(&first.file, "{").unwrap();
        let third = asker("https://a/v1");
        assert_eq!(third.begin(10), Ok(()));
        fs::write(&first.file, r#"{"request":9e18,"tokens":0,"held":0}"#.replace("9e18", "9000000000000000000"))
            .unwrap();
        assert!(third.begin(10).unwrap_err() <= Duration::from_secs(3600));
    }

    #[test]
    fn a_run_has_one_till() {
        let folder = tempfile::tempdir().unwrap();
        let till = || Till { file: folder.path().join("tills/run"), most: 1.0 };
        let (first, second) = (till(), till());
        assert_eq!(first.take(60, 100), Ok(()));
        assert_eq!(second.take(60, 100), Err(60));
        first.give_back(30);
        assert_eq!(second.take(60, 100), Ok(()));
        assert_eq!(first.take(11, 100), Err(90));
        assert_eq!(first.take(10, 100), Ok(()));
    }
}
