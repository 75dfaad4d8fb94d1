//! Lists the targets and the folders of their seeds, for `scripts/fuzz`.

fn main() {
    for target in inferring_fuzz::TARGETS {
        println!("{} {}", target.name, target.seeds().display());
    }
}
