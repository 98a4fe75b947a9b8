//! What a control group lets a process have of the machine's memory: containers and batch systems set such limits.
//!
//! Version 2 has one tree; version 1 one for memory alone. A limit may stand on the process's own group or on any above it.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the trees are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// A limit above this is none: version 1 writes a number near 2^63 for it.
const ENDLESS: u64 = 1 << 60;

/// What one group says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Bytes that its processes may have.
    pub limit: u64,
    /// Of these, what they do not have, or could give back at once.
    pub free: u64,
}

/// The groups of this process that have a limit.
pub(super) fn limited() -> Vec<Group> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups(Path::new(ROOT), &own)
}

/// The same, of a process of which the system says `own`.
fn groups(root: &Path, own: &str) -> Vec<Group> {
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (tree, names) = match controllers {
            "" => (root.to_path_buf(), ["memory.max", "memory.current", "inactive_file "]),
            _ if controllers.split(',').any(|name| name == "memory") => {
                let names = ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file "];
                (root.join("memory"), names)
            }
            _ => continue,
        };
        // A container sees its own group as the root of the tree, whatever its path outside.
        let own = tree.join(path.trim_start_matches('/'));
        let folders = own.ancestors().take_while(|folder| folder.starts_with(&tree)).map(Path::to_path_buf);
        found.extend(folders.filter_map(|folder| group(&folder, names)));
    }
    found
}

fn group(folder: &Path, [limit, used, cached]: [&str; 3]) -> Option<Group> {
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limit = number(folder.join(limit)).filter(|limit| *limit < ENDLESS)?;
    let used = number(folder.join(used)).unwrap_or(0);
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cached = stat.lines().find_map(|line| line.strip_prefix(cached)?.trim().parse().ok()).unwrap_or(0);
    Some(Group { limit, free: limit.saturating_sub(used.saturating_sub(cached)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    #[test]
    fn limits_of_the_own_group_and_of_those_above_count() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("slurm/job/memory.max", "max\n"),
                ("slurm/memory.max", "1000\n"),
                ("slurm/memory.current", "700\n"),
                ("slurm/memory.stat", "anon 400\ninactive_file 250\n"),
                ("other/memory.max", "1\n"),
            ],
        );
        let groups = |own| groups(root.path(), own);
        assert_eq!(groups("0::/slurm/job\n"), [Group { limit: 1000, free: 550 }]);
        assert_eq!(groups("0::/\n"), []);
        // The path of a container's group, as it is outside, leads nowhere inside.
        write(root.path(), &[("memory.max", "64"), ("memory.current", "100")]);
        assert_eq!(groups("0::/docker/1f\n"), [Group { limit: 64, free: 0 }]);
    }

    #[test]
    fn the_older_version_has_a_tree_for_memory() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("memory/job/memory.limit_in_bytes", "2048\n"),
                ("memory/job/memory.usage_in_bytes", "2000\n"),
                ("memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 1000\n"),
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("cpu/job/memory.limit_in_bytes", "1\n"),
            ],
        );
        let own = "9:cpu,cpuacct:/job\n4:hugetlb,memory:/job\nnoise\n";
        assert_eq!(groups(root.path(), own), [Group { limit: 2048, free: 1048 }]);
    }
}
