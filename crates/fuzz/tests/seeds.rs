//! Every seed of every target, once.
#![expect(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::fs;
use std::path::Path;

use inferring_fuzz::TARGETS;

#[test]
fn every_seed_is_decoded_or_refused() {
    for target in TARGETS {
        let mut seeds = 0;
        for_each_file(&target.seeds(), &mut |path| {
            seeds += 1;
            let data = fs::read(path).unwrap();
            eprintln!("{}: {}", target.name, path.display());
            (target.run)(&data);
        });
        assert!(seeds > 2, "{} has {seeds} seeds", target.name);
    }
}

fn for_each_file(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { for_each_file(&path, visit) } else { visit(&path) }
    }
}
