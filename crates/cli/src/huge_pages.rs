//! Large pages for the memory that models compute in.
//!
//! A run goes through tens of megabytes of intermediate results, and the processor has to look up
//! where each page of 4 KiB is. Where the system gives pages of 2 MiB to who asks for them, the
//! GNU allocator asks, for the engine's memory as well as for ours; but only if the environment says
//! so when a program begins. So the program begins again, once, as the same process (ADR 0022).

use std::ffi::{OsStr, OsString};

/// What the GNU allocator is told by, and what it is told.
const TUNABLES: &str = "GLIBC_TUNABLES";
const PAGES: &str = "glibc.malloc.hugetlb";

/// Begins again with large pages where that is of use and was not decided otherwise. Called before
/// this process has opened anything that the next one could not open.
pub(crate) fn ask_for() {
    if let Some(tunables) = wanted(std::env::var_os(TUNABLES).as_deref(), are_offered()) {
        begin_again(&tunables);
    }
}

/// What the environment should say; `None` where it may stay as it is.
fn wanted(present: Option<&OsStr>, are_offered: bool) -> Option<OsString> {
    let present = present.unwrap_or_default();
    let is_decided = present.to_string_lossy().contains(PAGES);
    (are_offered && !is_decided).then(|| {
        let mut tunables = present.to_owned();
        if !tunables.is_empty() {
            tunables.push(":");
        }
        tunables.push(format!("{PAGES}=1"));
        tunables
    })
}

/// Whether this system gives large pages to who asks for them, and this allocator can ask.
fn are_offered() -> bool {
    cfg!(all(target_os = "linux", target_env = "gnu"))
        && std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
            .is_ok_and(|modes| modes.contains("[madvise]"))
}

#[cfg(unix)]
fn begin_again(tunables: &OsStr) {
    use std::os::unix::process::CommandExt as _;

    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // It comes back where the system does not allow it; then all is as it was.
    let _ = command.args(arguments).env(TUNABLES, tunables).exec();
}

#[cfg(not(unix))]
fn begin_again(_: &OsStr) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_says_already_is_kept() {
        for (present, offered, expected) in [
            (None, true, Some("glibc.malloc.hugetlb=1")),
            (None, false, None),
            (Some(""), true, Some("glibc.malloc.hugetlb=1")),
            (
                Some("glibc.malloc.check=3"),
                true,
                Some("glibc.malloc.check=3:glibc.malloc.hugetlb=1"),
            ),
            (Some("glibc.malloc.hugetlb=0"), true, None),
            (Some("glibc.malloc.hugetlb=1"), true, None),
        ] {
            let tunables = wanted(present.map(OsStr::new), offered);
            assert_eq!(tunables.as_deref(), expected.map(OsStr::new), "{present:?}, {offered}");
        }
    }
}
