use super::*;

const MANIFEST: &str = r#"titer = 1
name = "p"   # the paper's

[params]
base = "models/base"

# What varies.
[axes]
n   = [0, 20]     # rows

[mix.train]
sources = [
  { path = "a.jsonl" },           # general
  { path = "b.jsonl", take = "{n}" },
]
split = { test = 0.2 }

[train.adapter]
data = "mix.train"
base = "{base}"

# Twice is enough.
epochs = 2        # times
"#;

const BASE: [(&str, &str); 2] = [("p.toml", MANIFEST), ("v.toml", "titer = 1\nextends = \"p.toml\"\n")];

fn all(name: &str, edits: &[&str]) -> Result<Edited, String> {
    on(&BASE, name, edits)
}

fn on(files: &[(&str, &str)], name: &str, edits: &[&str]) -> Result<Edited, String> {
    let read = |path: &str| match files.iter().find(|(name, _)| *name == path) {
        Some((_, text)) => Ok((*text).to_string()),
        None => Err(Diagnostic::new(format!("there is no {path}"))),
    };
    let edits: Vec<Edit> = edits
        .iter()
        .map(|text| match text.strip_prefix("--unset ") {
            Some(key) => Edit::Unset(key.to_string()),
            None => Edit::Set((*text).to_string()),
        })
        .collect();
    let mut sources = Sources::default();
    edit(name, &read, &edits, &mut sources)
        .map_err(|problems| problems.iter().map(|problem| sources.render(problem)).collect())
}

/// The lines that went, and those that came.
fn diff(name: &str, edits: &[&str]) -> (Vec<String>, Vec<String>) {
    let edited = all(name, edits).unwrap();
    let without = |a: &str, b: &str| {
        let lines = a.lines().filter(|line| !b.lines().any(|other| other == *line));
        lines.map(String::from).collect()
    };
    (without(&edited.old, &edited.new), without(&edited.new, &edited.old))
}

#[test]
fn a_value_is_replaced_and_all_around_it_stays() {
    let edits = ["train.adapter.epochs=3", "params.base=models/x", "axes.n=[0, 20,80]", "mix.train.sources.1.take=50"];
    let (old, new) = diff("p.toml", &edits);
    assert_eq!(
        new,
        [
            "base = \"models/x\"",
            "n   = [0, 20,80]     # rows",
            "  { path = \"b.jsonl\", take = 50 },",
            "epochs = 3        # times"
        ]
    );
    assert_eq!(old.len(), 4);
    let changed = &all("p.toml", &edits).unwrap().changes;
    let shown: Vec<_> = changes_of(changed);
    assert_eq!(
        shown,
        [
            ("train.adapter.epochs", Some("2"), Some("3")),
            ("params.base", Some("\"models/base\""), Some("\"models/x\"")),
            ("axes.n", Some("[0, 20]"), Some("[0, 20,80]")),
            ("mix.train.sources.1.take", Some("\"{n}\""), Some("50")),
        ]
    );
}

fn changes_of(changes: &[Changed]) -> Vec<(&str, Option<&str>, Option<&str>)> {
    changes.iter().map(|change| (change.key.as_str(), change.old.as_deref(), change.new.as_deref())).collect()
}

#[test]
fn a_new_setting_stands_where_a_person_would_put_it() {
    let new = |edit: &str| diff("p.toml", &[edit]).1;
    assert_eq!(new("train.adapter.learning_rate=1e-4"), ["learning_rate = 1e-4"]);
    assert_eq!(new("train.adapter.lora.r=16"), ["lora = { r = 16 }"]);
    assert_eq!(new("mix.train.split.validation=0.1"), ["split = { test = 0.2, validation = 0.1 }"]);
    assert_eq!(new("mix.train.sources.2.path=c.jsonl"), ["  { path = \"c.jsonl\" },"]);
    assert_eq!(new("axes.n.2=80"), ["n   = [0, 20, 80]     # rows"]);
    assert_eq!(new("seed=7"), ["seed = 7"]);
    assert_eq!(new("limits.cpus=2"), ["[limits]", "cpus = 2"]);
    assert_eq!(new("mix.exam.sources.0.path=e.jsonl"), ["[mix.exam]", "sources = [{ path = \"e.jsonl\" }]"]);
    assert_eq!(new("variant.smoke.params.base=tiny"), ["[variant.smoke]", "params = { base = \"tiny\" }"]);
    assert_eq!(new("defaults.train.batch_size=4"), ["[defaults.train]", "batch_size = 4"]);
    assert_eq!(
        new("aggregate.\"curve\"={ from = \"x.jsonl\", by = [\"n\"] }"),
        ["[aggregate.curve]", "from = \"x.jsonl\"", "by = [\"n\"]"]
    );
}

#[test]
fn what_is_removed_leaves_no_scar() {
    let edited = all("p.toml", &["--unset train.adapter.epochs", "--unset mix.train.split"]).unwrap();
    assert!(!edited.new.contains("epochs") && !edited.new.contains("split") && !edited.new.contains("Twice"));
    let (_, new) = diff("p.toml", &["--unset mix.train.sources.0", "--unset axes.n.1"]);
    assert_eq!(new, ["n   = [0]     # rows"]);
    let (_, new) = diff("p.toml", &["--unset mix.train.sources.1.take", "--unset axes.n"]);
    assert_eq!(new, ["  { path = \"b.jsonl\" },"]);
    let wrong = all("p.toml", &["--unset train.adapter.epoch"]).unwrap_err();
    assert!(wrong.contains("`train.adapter.epoch` is not set") && wrong.contains("mean `epochs`"), "{wrong}");
}

#[test]
fn new_mistakes_are_shown_in_the_new_text_and_refuse_all() {
    let wrong = all("p.toml", &["train.adapter.epoch=3", "train.adapter.epochs=x y"]).unwrap_err();
    assert!(wrong.contains("unknown setting `epoch`") && wrong.contains("did you mean `epochs`"), "{wrong}");
    assert!(wrong.contains("p.toml:23:10") && wrong.contains("epochs = \"x y\""), "{wrong}");
    let wrong = all("p.toml", &["train.adaptr.epochs=3"]).unwrap_err();
    assert!(wrong.contains("there is no stage `train.adaptr` yet") && wrong.contains("`adapter`"), "{wrong}");
    let wrong = all("p.toml", &["params.bse=models/x"]).unwrap_err();
    assert!(wrong.contains("no parameter `bse`") && wrong.contains("did you mean `base`?"), "{wrong}");
    let wrong = all("p.toml", &["variant.smoke.params.bse=models/x"]).unwrap_err();
    assert!(wrong.contains("there is no parameter `bse`"), "{wrong}");
    let used = all("p.toml", &["params.rate=0.1", "train.adapter.learning_rate={rate}"]);
    assert!(used.is_ok(), "{used:?}");
}

#[test]
fn mistakes_that_were_there_do_not_stand_in_the_way() {
    let broken = MANIFEST.replace("epochs = 2 ", "epohcs = 2 ");
    let edited = on(&[("p.toml", &broken)], "p.toml", &["params.base=x"]).unwrap();
    assert_eq!(edited.mistakes, 1);
    let mended = on(&[("p.toml", &broken)], "p.toml", &["--unset train.adapter.epohcs"]).unwrap();
    assert_eq!(mended.mistakes, 0);
    let wrong = on(&[("p.toml", "titer = 1\na = [\n")], "p.toml", &["seed=1"]).unwrap_err();
    assert!(wrong.contains("p.toml:2"), "{wrong}");
}

#[test]
fn what_only_a_base_has_is_overridden_here() {
    let edited = all("v.toml", &["train.adapter.epochs=3", "mix.train.sources.1.take=50"]).unwrap();
    assert_eq!(
        edited.new,
        "titer = 1\nextends = \"p.toml\"\n\n[train.adapter]\nepochs = 3\n\n[mix.train]\nsources = [\n  \
         { path = \"a.jsonl\" },           # general\n  { path = \"b.jsonl\", take = 50 },\n]\n"
    );
    assert_eq!(edited.changes[0].overrides.as_deref(), Some("p.toml"));
    assert_eq!(edited.changes[0].old.as_deref(), Some("2"));
    assert_eq!(edited.changes[1].copied.as_deref(), Some("mix.train.sources"));
    let wrong = all("v.toml", &["--unset train.adapter.epochs"]).unwrap_err();
    assert!(wrong.contains("`train.adapter.epochs` is not set here, but in `p.toml`"), "{wrong}");
}

#[test]
fn calls_that_cannot_be_meant() {
    let cases = [
        ("seed", "`seed` is not `key=value`"),
        ("seed=", "`seed` gets no value"),
        ("axes.n=[0, 20", "is no TOML"),
        ("train.adapter[n=0].epochs=1", "the same for all instances"),
        ("train..epochs=1", "`train..epochs` is no key"),
        ("name.x=1", "`name` is a string: it has no `x`"),
        ("mix.train.sources.9.take=1", "`mix.train.sources` has 2 items: 9 is none of them"),
        ("mix.train.sources.first.take=1", "its items are called 0, 1, …"),
        ("titer=2", "version 2"),
        ("extends=p.toml", "p.toml → p.toml"),
    ];
    for (call, expected) in cases {
        let wrong = all("p.toml", &[call]).unwrap_err();
        assert!(wrong.contains(expected), "{call}: {wrong}");
    }
    assert!(matches!(all("p.toml", &["name.x=1"]).unwrap_err(), text if text.contains("set:1:1")));
}

#[test]
fn a_comment_after_an_item_stays_with_it() {
    let manifest = |items: &str| format!("titer = 1\n[mix.a]\nsources = [\n{items}]\n");
    let (a, b) = ("  { path = \"a\" },  # a\n", "  { path = \"b\" },  # b\n");
    let changed = |text: &str, edit: &str| on(&[("p.toml", text)], "p.toml", &[edit]).unwrap().new;
    let both = manifest(&format!("{a}{b}"));
    let c = "  { path = \"c\" },\n";
    assert_eq!(changed(&both, "mix.a.sources.2.path=c"), manifest(&format!("{a}{b}{c}")));
    assert_eq!(changed(&both, "--unset mix.a.sources.0"), manifest(b));
    assert_eq!(changed(&both, "--unset mix.a.sources.1"), manifest(a));
    let open = manifest("  { path = \"a\" },\n  { path = \"b\" }\n");
    let longer = manifest("  { path = \"a\" },\n  { path = \"b\" },\n  { path = \"c\" }\n");
    assert_eq!(changed(&open, "mix.a.sources.2.path=c"), longer);
    assert_eq!(changed(&longer, "--unset mix.a.sources.2"), open);
}

#[test]
fn line_ends_stay() {
    let text = MANIFEST.replace('\n', "\r\n");
    let edited = on(&[("p.toml", &text)], "p.toml", &["train.adapter.batch_size=2", "seed=1"]).unwrap();
    assert_eq!(edited.new.matches("\r\n").count(), edited.new.matches('\n').count());
    assert_eq!(edited.new.replace("\r\n", "\n").lines().count(), MANIFEST.lines().count() + 2);
}

#[test]
fn keys_are_split_where_they_end() {
    assert_eq!(split("a.\"b=c\".d = 1=2"), ("a.\"b=c\".d", Some(" 1=2")));
    assert_eq!(split("a"), ("a", None));
}
