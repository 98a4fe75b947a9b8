//! # titer: how much of which data does an instruction-tuned model need, and how do we know?
//!
//! A manifest (TOML) declares a DAG of `mix → train → predict → score → aggregate` stages. titer runs it,
//! keeps every result by content, and the next time runs only what changed.
//!
//! ## The one idea
//!
//! A stage is a function from content to content. Its key is
//! `BLAKE3(canonical JSON of {format, kind, version, recipe, digest of every input})`:
//!
//! - the *recipe* holds every setting that can change a byte of the output, after defaults and placeholders
//!   ([`stage::Recipe`]); what cannot change the output is a *hint* ([`stage::Hints`]), another type, and can never
//!   enter a key. The stage's name is in neither.
//! - inputs enter by the digest of the bytes that are read, not by the recipe that made them: an upstream stage that
//!   runs again and yields the same bytes stops there (early cut-off).
//! - a model's digest covers its base and its whole chain of adapters.
//! - never in a key: clock, environment, host name, absolute path, mtime, map order, device, number of threads.
//!
//! Two things help later work besides results, and may go at any time: where a stopped training stood, and the answers to
//! single rows of predictions that differ in their rows only ([`stage::Earlier`]).
//!
//! The first committed output of a key is canonical; another run of the same key is an *observation* kept beside it.
//! Failures are never cached.
//!
//! ## The way of the data
//!
//! Each type has fewer 'maybes' than the one before it, and the chain has no way back:
//!
//! | step | in → out | the mistake that is its own |
//! |---|---|---|
//! | [`settings`](mod@settings) | text → values with positions | syntax |
//! | [`manifest`] | values → checked pipeline of concrete stage instances | unknown key, bad reference, range, name, a cycle |
//! | [`graph`] | instances → DAG | none |
//! | [`plan`] | DAG + store → cached / runs / waits | a missing input; a column, a model or a template that does not fit |
//! | [`schedule`] | ready queue under limits (no threads, no clock) | none: a bug |
//! | [`exec`] | job → events → output folder | the stage failed |
//! | [`store`] | outputs + record → cache | a promised output is missing, a full disk |
//!
//! A run with nothing to do goes none of this way: a snapshot of the last such run names all the files that this rested on,
//! and a look at each says whether it is still so ([`store::Facts`]).
//!
//! A key is made when all inputs of an instance exist, by [`plan::Resolver`]; [`run`] looks it up, and only if the cache
//! does not have it, a worker gets a job: a folder with the inputs laid out under their names, and an empty one for the
//! outputs. The worker (`titer worker`, this same program) knows nothing but that.
//!
//! ## Rooms
//!
//! Arrows only point down; a room knows only what it must.
//!
//! | room | knows |
//! |---|---|
//! | [`cli`] | words in, words out; the only place that prints or reads the environment |
//! | [`run`], [`schedule`] | the loop, and the state machine in which one function makes every change of state |
//! | [`audit`] | what is made again, held against what was made |
//! | [`diff`] | two instances, runs or manifests side by side |
//! | [`compare`] | files held against files |
//! | [`lock`] | `titer.lock`: its form, and what a run that holds to it refuses |
//! | [`exec`] | how a job is given to a process; not the graph |
//! | [`plan`] | what would run, and why; it writes nothing |
//! | [`graph`] | instances and edges |
//! | `fetch` | models and files of a hub or a server, brought into the cache (feature `hub`) |
//! | [`store`] | the cache, local and shared, and its upkeep; not stages |
//! | [`journal`] | what a run leaves behind: its summary and its plan |
//! | [`manifest`] | text → pipeline; no files but manifests |
//! | [`resources`] | what jobs need and what a machine has |
//! | [`stage`] | the five kinds, one folder each: settings, checks, work |
//! | [`scorer`] | one file each and one line in a table: of rows, by a model, by a program, by a judge |
//! | [`survey`] | what there is to show of a pipeline, gathered for the report page |
//! | [`report`] | tables, figures, graphs, the report page, exports: values in, bytes out |
//! | [`statistics`] | statistics of plain numbers: pure |
//! | `engine` | the only room that knows candle and tokenizers (feature `candle`) |
//! | `api` | models behind OpenAI-compatible APIs, and the ledger of paid replies (feature `api`) |
//! | `http` | how servers are spoken to, whatever is asked of them (features `api`, `hub`) |
//! | [`prompt`] | how a row becomes the text that a model is asked, of a template or a chat template |
//! | [`secrets`] | values that may stand in no file and no message |
//! | [`appended`] | files of lines that are appended, each with a check, and survive a kill |
//! | [`record`] | what happened when a key was made: the outputs with their digests, the machine, the times |
//! | [`address`] | names of what is elsewhere, pinned: `hf://owner/name@revision`, `https://host/file#digest` |
//! | [`frame`] | rows as columns, on Arrow; Parquet; joins, groups, formulas |
//! | [`row`] | rows of JSONL, JSON and CSV files |
//! | [`random`] | random numbers: a function from (seed, purpose, index) to bits |
//! | [`tensors`] | the headers of safetensors files |
//! | [`key`] | digests, canonical JSON, what is hashed to a key, and how two keys differ |
//! | [`settings`](mod@settings), [`diagnostic`] | typed settings read from values with positions; messages that show the place |
//!
//! ## Where the bytes come from
//!
//! Everything random is a hash: of (seed, row) for the order of a mix, of the row alone for its side of the split, of
//! (seed, purpose, index) for weights, dropout and the order of training. Arithmetic on the CPU keeps a row's bits apart
//! from its neighbours and from the number of threads (`engine::matmul`); so the same manifest gives the same bytes
//! with any number of threads and at any batch size of prediction, on one class of processor with one build.

pub mod address;
#[cfg(feature = "api")]
pub mod api;
pub mod appended;
pub mod audit;
pub mod cli;
pub mod compare;
pub mod diagnostic;
pub mod diff;
#[cfg(feature = "candle")]
pub mod engine;
pub mod exec;
#[cfg(feature = "hub")]
pub mod fetch;
pub mod frame;
pub mod graph;
#[cfg(any(feature = "api", feature = "hub"))]
mod http;
pub mod journal;
pub mod key;
pub mod lock;
pub mod manifest;
pub mod plan;
pub mod prompt;
pub mod random;
pub mod record;
pub mod report;
pub mod resources;
pub mod row;
pub mod run;
pub mod schedule;
pub mod scorer;
pub mod secrets;
pub mod settings;
pub mod stage;
pub mod statistics;
pub mod store;
pub mod survey;
pub mod tensors;
