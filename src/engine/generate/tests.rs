//! Answers against transformers, and that nothing but a prompt (and its key) can be seen in its answer.

use super::*;
use crate::engine::decoder::Decoder;
use crate::engine::model::Model;
use std::path::{Path, PathBuf};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn tiny() -> (Decoder, Tokenizer) {
    let folder = golden("engine/llama");
    (Decoder::new(Model::load(&[&folder]).unwrap()), Tokenizer::load(&folder).unwrap())
}

const ROOM: Room = Room { batch_size: 8, cache_bytes: usize::MAX };

const SAMPLING: Sampling = Sampling { temperature: 0.9, top_k: Some(50), top_p: Some(0.95), min_p: None, seed: 11 };

const BEAMS: BeamSearch = BeamSearch { width: 3, length_penalty: 1.0, early_stopping: EarlyStopping::Likely };

/// Prompts of all lengths from 1 on, so that they join and leave at different times.
fn prompts() -> Vec<Vec<u32>> {
    (0..20u32).map(|i| (0..=i * 2).map(|j| 3 + (i * 31 + j * 17) % 300).collect()).collect()
}

fn requests(prompts: &[Vec<u32>]) -> Vec<Request<'_>> {
    prompts.iter().map(|prompt| Request { prompt, key: u64::from(prompt[0]) }).collect()
}

fn answers(settings: &Settings<'_>, requests: &[Request<'_>], room: Room) -> Vec<Vec<Answer>> {
    let (decoder, tokenizer) = tiny();
    generate(&decoder, &tokenizer, requests, settings, room, |_, _| {}).unwrap()
}

/// Every way of finding answers, with the log-probabilities of their tokens.
fn ways() -> [Settings<'static>; 4] {
    let of =
        |search, answers| Settings { max_new_tokens: 20, search, answers, log_probabilities: true, ..Settings::GREEDY };
    let constraints = Constraints { repetition_penalty: Some(1.2), no_repeat_ngram: Some(3), min_new_tokens: 4 };
    [
        of(Search::Greedy, 1),
        of(Search::Sample(SAMPLING), 3),
        of(Search::Beams(BEAMS), 2),
        Settings { constraints, ..of(Search::Sample(SAMPLING), 1) },
    ]
}

#[test]
fn answers_depend_on_neither_batch_nor_order_nor_threads_nor_memory() {
    let prompts = prompts();
    let requests = requests(&prompts);
    let reversed: Vec<Request<'_>> = requests.iter().rev().copied().collect();
    for settings in ways() {
        let alone: Vec<Vec<Answer>> =
            requests.iter().map(|request| answers(&settings, &[*request], ROOM).remove(0)).collect();
        assert!(alone.iter().all(|answers| answers.len() == settings.answers), "{settings:?}");
        let cases = [(1, usize::MAX), (3, usize::MAX), (16, usize::MAX), (16, 200_000)];
        for (batch_size, cache_bytes) in cases {
            for threads in [1, 2] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let run = |requests| pool.install(|| answers(&settings, requests, Room { batch_size, cache_bytes }));
                assert_eq!(run(&requests), alone, "{settings:?}, {batch_size}, {threads} threads");
                let mut back = run(&reversed);
                back.reverse();
                assert_eq!(back, alone, "{settings:?}, {batch_size}, {threads} threads, reversed");
            }
        }
    }
}

/// The version of the arithmetic: whoever changes these digests changes existing results, and raises the kind's version.
/// Other architectures have other kernels.
#[cfg(target_arch = "x86_64")]
#[test]
fn answers_have_the_bits_that_they_always_had() {
    let prompts = prompts();
    let digests = ways().map(|settings| {
        let mut hasher = blake3::Hasher::new();
        for answer in answers(&settings, &requests(&prompts), ROOM).iter().flatten() {
            hasher.update(answer.text.as_bytes()).update(answer.stop.name().as_bytes());
            answer.log_probabilities.iter().for_each(|value| _ = hasher.update(&value.to_le_bytes()));
        }
        hasher.finalize().to_hex()[..16].to_string()
    });
    assert_eq!(digests, ["d105c5ebbeb56592", "0bb2fce5f2a49163", "d141be9b1ce71ca3", "222815a93698df09"]);
}

#[test]
fn samples_differ_by_number_key_and_seed_alone() {
    let prompt = vec![5, 6, 7];
    let request = |key| Request { prompt: &prompt, key };
    let tokens = |seed, key, answers_wanted| -> Vec<Vec<u32>> {
        let search = Search::Sample(Sampling { seed, ..SAMPLING });
        let settings = Settings { search, answers: answers_wanted, max_new_tokens: 12, ..Settings::GREEDY };
        answers(&settings, &[request(key)], ROOM).remove(0).into_iter().map(|answer| answer.tokens).collect()
    };
    let four = tokens(1, 1, 4);
    assert!((1..4).all(|number| !four[..number].contains(&four[number])), "{four:?}");
    assert_eq!(tokens(1, 1, 2), four[..2]);
    assert_ne!(tokens(1, 2, 1)[0], four[0]);
    assert_ne!(tokens(2, 1, 1)[0], four[0]);
}

#[test]
fn one_beam_is_greedy_and_constraints_hold() {
    let prompts = prompts();
    let plain = Settings { max_new_tokens: 16, ..Settings::GREEDY };
    let search = Search::Beams(BeamSearch { width: 1, ..BEAMS });
    let one_beam = answers(&Settings { search, ..plain.clone() }, &requests(&prompts), ROOM);
    let greedy = answers(&plain, &requests(&prompts), ROOM);
    // A search over one beam may go on where greedy decoding ends: compared as far as both go.
    let same = one_beam.iter().zip(&greedy).filter(|(a, b)| a == b).count();
    assert!(same >= 15, "{same} of 20");

    let constraints = Constraints { no_repeat_ngram: Some(1), ..Constraints::default() };
    let answers_without = answers(&Settings { constraints, ..plain.clone() }, &requests(&prompts), ROOM);
    for (prompt, answer) in prompts.iter().zip(answers_without.iter().flatten()) {
        let mut all = [prompt.as_slice(), &answer.tokens].concat();
        let new = all.split_off(prompt.len());
        assert!(new.iter().enumerate().all(|(i, token)| !all.contains(token) && !new[..i].contains(token)));
    }

    // Where an answer ended, it goes on up to the least number of tokens.
    let ended = |answers: &[Vec<Answer>]| answers.iter().flatten().filter(|a| a.tokens.len() < 10).count();
    let first: Vec<u32> = greedy.iter().map(|answers| answers[0].tokens[2]).collect();
    let stopping = Settings { stop_tokens: &first, ..plain };
    let early = answers(&stopping, &requests(&prompts), ROOM);
    assert!(ended(&early) > 10 && early[0][0].stop == StopReason::Stop, "{}", ended(&early));
    let constraints = Constraints { min_new_tokens: 10, ..Constraints::default() };
    let late = answers(&Settings { constraints, ..stopping }, &requests(&prompts), ROOM);
    assert_eq!(ended(&late), 0);
}

#[test]
fn long_prompts_are_read_in_pieces() {
    // Prompts that together are longer than a step has room for.
    let long: Vec<Vec<u32>> = (0..20u32).map(|i| (0..240).map(|j| 3 + (i * 7 + j * 11) % 300).collect()).collect();
    assert!(long.iter().map(Vec::len).sum::<usize>() > STEP_TOKENS);
    let settings = Settings { max_new_tokens: 30, ..Settings::GREEDY };
    let together = answers(&settings, &requests(&long), Room { batch_size: 32, ..ROOM });
    for (request, answer) in requests(&long).iter().zip(&together) {
        assert_eq!(answers(&settings, &[*request], ROOM)[0], *answer);
        // 256 positions: the last token needs none.
        assert!(answer[0].tokens.len() <= 17);
    }
    assert!(together.iter().any(|answer| answer[0].tokens.len() == 17));
}

#[test]
fn likelihoods_are_those_of_the_answers_themselves() {
    let (decoder, tokenizer) = tiny();
    let prompts = prompts();
    let settings = &ways()[0];
    let found = generate(&decoder, &tokenizer, &requests(&prompts), settings, ROOM, |_, _| {}).unwrap();
    let other = [9, 8, 7, 6];
    let questions: Vec<Texts<'_>> = prompts
        .iter()
        .zip(&found)
        .map(|(prompt, answers)| Texts { prompt, continuations: vec![&answers[0].tokens, &other, &other[..1]] })
        .collect();
    let values = likelihoods(&decoder, &questions, ROOM, |_, _| {}).unwrap();
    for ((values, answers), question) in values.iter().zip(&found).zip(&questions) {
        // An answer's own values have one more if a token ended it.
        let own = &answers[0].log_probabilities[..answers[0].tokens.len()];
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values[0]), bits(own));
        assert_eq!(bits(&values[1][..1]), bits(&values[2]));
        let alone =
            likelihoods(&decoder, std::slice::from_ref(question), Room { batch_size: 1, cache_bytes: 0 }, |_, _| {})
                .unwrap();
        assert_eq!(alone[0], *values);
    }
}

/// `tests/golden/beams.json`: transformers' answers on `tests/golden/engine/llama`.
#[test]
fn beams_and_likelihoods_are_those_of_transformers() {
    let (decoder, tokenizer) = tiny();
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(golden("beams.json")).unwrap()).unwrap();
    let ids = |value: &serde_json::Value| serde_json::from_value::<Vec<u32>>(value.clone()).unwrap();
    for case in file["beams"].as_array().unwrap() {
        let setting = |name: &str| &case["settings"][name];
        let search = Search::Beams(BeamSearch {
            width: setting("num_beams").as_u64().unwrap() as usize,
            length_penalty: setting("length_penalty").as_f64().unwrap_or(1.0),
            early_stopping: match setting("early_stopping") {
                serde_json::Value::Bool(true) => EarlyStopping::Always,
                serde_json::Value::String(_) => EarlyStopping::Never,
                _ => EarlyStopping::Likely,
            },
        });
        let eos = ids(&case["ends"]);
        let settings = Settings {
            max_new_tokens: setting("max_new_tokens").as_u64().unwrap() as usize,
            // Of the ends the tokenizer knows the first.
            stop_tokens: &eos[1..],
            constraints: Constraints {
                repetition_penalty: setting("repetition_penalty").as_f64().map(|penalty| penalty as f32),
                no_repeat_ngram: setting("no_repeat_ngram_size").as_u64().map(|length| length as usize),
                min_new_tokens: setting("min_new_tokens").as_u64().unwrap_or(0) as usize,
            },
            search,
            answers: setting("num_return_sequences").as_u64().unwrap_or(1) as usize,
            ..Settings::GREEDY
        };
        let prompt = ids(&case["prompt"]);
        let request = Request { prompt: &prompt, key: 0 };
        let found = generate(&decoder, &tokenizer, &[request], &settings, ROOM, |_, _| {}).unwrap().remove(0);
        let found: Vec<Vec<u32>> = found.into_iter().map(|answer| answer.tokens).collect();
        let expected: Vec<Vec<u32>> = case["answers"].as_array().unwrap().iter().map(ids).collect();
        assert_eq!(found, expected, "{}", case["settings"]);
    }
    for case in file["likelihoods"].as_array().unwrap() {
        let (prompt, text) = (ids(&case["prompt"]), ids(&case["text"]));
        let question = Texts { prompt: &prompt, continuations: vec![&text] };
        let values = likelihoods(&decoder, &[question], ROOM, |_, _| {}).unwrap().remove(0).remove(0);
        let expected: Vec<f32> = serde_json::from_value(case["log_probabilities"].clone()).unwrap();
        assert_eq!(values.len(), expected.len());
        for (value, expected) in values.iter().zip(&expected) {
            assert!((value - expected).abs() < 1e-4, "{value} is not {expected}");
        }
    }
}
