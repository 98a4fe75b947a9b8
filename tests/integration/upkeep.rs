//! The upkeep of the cache: damage is found and mended, nothing that is needed goes.

use crate::project::{Project, ran, tree};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const NOTHING: [&str; 0] = [];

/// The object behind a result under `out/`.
fn object(project: &Project, name: &str) -> PathBuf {
    let bytes = std::fs::read(project.path("out/answers").join(name)).unwrap();
    let digest = titer::key::Digest::of(&bytes).to_string();
    project.path("cache/objects").join(&digest[..2]).join(digest)
}

/// Changes one byte in place, as root or after a `chmod`, so that the length tells nothing.
fn spoil(path: &std::path::Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[0] ^= 1;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_result_edited_through_out_is_noticed_by_the_next_run() {
    let project = Project::answers();
    project.run();
    let expected = tree(&project.path("out"));
    // Through the link, or (with reflinks) the copy.
    let shown = project.path("out/answers/score.quality/n=2,scorer=em/scores.jsonl");
    let shown = if shown.exists() { shown } else { first_file(&project, "score.quality") };
    // The clock of change times is coarse.
    std::thread::sleep(std::time::Duration::from_millis(25));
    spoil(&shown);
    let ran = project.run();
    assert!(ran.len() <= 1 && ran.iter().all(|name| name.starts_with("score.quality")), "{ran:?}");
    assert!(tree(&project.path("out")) == expected, "{ran:?}");
    assert_eq!(project.run(), NOTHING);
}

fn first_file(project: &Project, stage: &str) -> PathBuf {
    let files = tree(&project.path("out/answers"));
    let found = files.iter().find(|(name, _)| name.starts_with(stage) && !name.ends_with(".titer"));
    project.path("out/answers").join(&found.unwrap().0)
}

#[test]
fn a_damaged_input_is_made_again_by_the_run_that_needs_it() {
    let project = Project::answers();
    project.run();
    let rows = tree(&project.path("out/answers")).into_iter().find(|(name, _)| name.contains("n=5/train")).unwrap().0;
    let object = object(&project, &rows);
    // A copy of the cache, or another host: nothing is known of the object but its name.
    std::fs::remove_dir_all(project.path("cache/local")).unwrap();
    spoil(&object);
    project.edit("pipelines/p.toml", "rouge = \"rouge\"\n", "rouge = \"rouge\"\nf1 = \"token_f1\"\n");
    let output = project.titer(&["run", "pipelines/p.toml", "--json"]);
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.err.contains("was changed or damaged"), "{output:?}");
    let ran = ran(&output.out);
    assert!(ran.contains(&"mix.rows[n=5]".to_string()) && ran.len() == 1 + 3 + 1, "{ran:?}");
    assert_eq!(project.run(), NOTHING);
}
