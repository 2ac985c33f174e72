//! Ranges of ids: each `hostUsers: false` pod has 65536 ids of the host for itself (KEP-127).
//!
//! A range is noted before anything uses it, and is free again when the pod's directory is gone. The
//! notes are the only truth: which ranges are taken is read from them, under one lock.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use super::store::{Entry, Store};
use crate::error::OrFailure;
use crate::files::{self, Lasts};
use crate::spec::namespaces::{IdMapping, IdMaps};

/// Ids of one pod.
pub const COUNT: u32 = 65536;

/// Gives a pod a range of ids, or the one that it has.
///
/// # Errors
/// When all are taken, or the note cannot be written.
pub fn assign(store: &Store, entry: &Entry) -> Result<IdMaps> {
    let path = store.root().join("userns.lock");
    let file = fs::File::create(&path).or_failure(|| format!("open {}", path.display()))?;
    let _lock = Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .or_failure(|| format!("lock {}", path.display()))?;
    if let Some(maps) = entry.maps()? {
        return Ok(maps);
    }
    let mut taken = BTreeSet::new();
    for other in store.entries()? {
        let maps = other.maps()?.unwrap_or_default();
        taken.extend(maps.uids.iter().map(|line| line.outside / COUNT));
    }
    let free = first_free(&taken).context("all ranges of user ids are taken by other pods")?;
    let line = IdMapping {
        inside: 0,
        outside: free * COUNT,
        count: COUNT,
    };
    let maps = IdMaps {
        uids: vec![line],
        gids: vec![line],
    };
    files::replace(
        &entry.kept("userns"),
        &serde_json::to_vec(&maps)?,
        Lasts::Forever,
    )?;
    Ok(maps)
}

/// The lowest range that nobody has. Range 0 is the host's own, and the last has the id that means
/// "none".
fn first_free(taken: &BTreeSet<u32>) -> Option<u32> {
    (1..u32::MAX / COUNT).find(|range| !taken.contains(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_do_not_overlap_and_are_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("root"), directory.path().join("run"));
        let pods = ["a", "b", "c"].map(|uid| store.entry(uid));
        let mut first = Vec::new();
        for pod in &pods {
            files::make_directory(&pod.kept("")).unwrap();
            first.push(assign(&store, pod).unwrap().uids[0].outside);
        }
        assert_eq!(first, [65536, 131_072, 196_608]);
        assert_eq!(assign(&store, &pods[1]).unwrap().uids[0].outside, 131_072);
        files::remove_tree(&pods[1].kept("")).unwrap();
        let again = store.entry("d");
        files::make_directory(&again.kept("")).unwrap();
        assert_eq!(assign(&store, &again).unwrap().uids[0].outside, 131_072);
    }

    #[test]
    fn range_0_and_the_last_are_never_given() {
        assert_eq!(first_free(&BTreeSet::new()), Some(1));
        assert_eq!(first_free(&(1..u32::MAX / COUNT).collect()), None);
    }
}
